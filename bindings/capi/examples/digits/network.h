/* A small neural network in plain C: 64 pixels -> hidden (ReLU) -> 10 classes (softmax, cross entropy), trained by
 * stochastic gradient descent with momentum. It knows nothing of processes: digits.c shares the work among them. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stddef.h>
#include <stdint.h>

enum { PIXELS = 64, CLASSES = 10 };

/* Weights, gradient and velocity have the same layout, `count` numbers each:
 * hidden x 64 weights, hidden biases, 10 x hidden weights, 10 biases. */
struct network {
    int hidden;
    size_t count;
    float *weights;
    float *gradient; /* sum over the images learnt since the last update */
    float *velocity;
    float *active; /* outputs of the hidden layer for one image */
    float *blame;  /* gradient of the loss with respect to them */
};

/* The next number of a small generator (SplitMix64): the same on every machine. */
uint64_t random_next(uint64_t *state);

/* A network with random weights that depend on the seed only. Returns 0, or -1 without memory. */
int network_init(struct network *net, int hidden, uint64_t seed);
void network_free(struct network *net);

/* The class that the network takes an image for. Pixels are 0 to 16. */
int network_classify(struct network *net, const unsigned char *pixels);

/* Adds the gradient of one image to net->gradient and returns the loss of that image. */
double network_learn(struct network *net, const unsigned char *pixels, int label);

/* One step down the mean gradient of `images` images; the gradient is zero again afterwards. */
void network_update(struct network *net, int images);

#endif

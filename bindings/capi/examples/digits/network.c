#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float RATE = 0.05F;
static const float MOMENTUM = 0.9F;
static const float BRIGHTEST = 16.0F; /* of a pixel */

/* Where the four parts of a layout begin. */
struct parts {
    float *hidden_weights, *hidden_biases, *class_weights, *class_biases;
};

static struct parts parts_of(const struct network *net, float *numbers)
{
    size_t hidden = (size_t)net->hidden;
    float *hidden_biases = numbers + hidden * PIXELS;
    float *class_weights = hidden_biases + hidden;
    return (struct parts){numbers, hidden_biases, class_weights, class_weights + CLASSES * hidden};
}

uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* Uniform weights after He et al., "Delving deep into rectifiers" (2015): +-sqrt(6 / inputs). */
static void randomize(float *weights, size_t count, int inputs, uint64_t *state)
{
    float limit = sqrtf(6.0F / (float)inputs);
    for (size_t i = 0; i < count; i++) {
        float unit = (float)(random_next(state) >> 40) * 0x1p-23F - 1.0F; /* [-1, 1), exact */
        weights[i] = limit * unit;
    }
}

int network_init(struct network *net, int hidden, uint64_t seed)
{
    size_t units = (size_t)hidden;
    *net = (struct network){.hidden = hidden, .count = units * PIXELS + units + CLASSES * units + CLASSES};
    net->weights = calloc(net->count, sizeof(float));
    net->gradient = calloc(net->count, sizeof(float));
    net->velocity = calloc(net->count, sizeof(float));
    net->active = calloc(units, sizeof(float));
    net->blame = calloc(units, sizeof(float));
    if (!net->weights || !net->gradient || !net->velocity || !net->active || !net->blame) {
        network_free(net);
        return -1;
    }
    struct parts w = parts_of(net, net->weights);
    randomize(w.hidden_weights, units * PIXELS, PIXELS, &seed);
    randomize(w.class_weights, CLASSES * units, hidden, &seed);
    return 0;
}

void network_free(struct network *net)
{
    free(net->weights);
    free(net->gradient);
    free(net->velocity);
    free(net->active);
    free(net->blame);
    *net = (struct network){0};
}

static void scale_image(const unsigned char *pixels, float *image)
{
    for (int p = 0; p < PIXELS; p++) {
        image[p] = (float)pixels[p] / BRIGHTEST;
    }
}

/* outputs = weights x inputs + biases */
static void layer(const float *weights, const float *biases, const float *inputs, int in, float *outputs, int out)
{
    for (int o = 0; o < out; o++) {
        const float *row = weights + (size_t)o * (size_t)in;
        float sum = biases[o];
        for (int i = 0; i < in; i++) {
            sum += row[i] * inputs[i];
        }
        outputs[o] = sum;
    }
}

/* Fills net->active and the scores of the classes. */
static void forward(struct network *net, const float *image, float *scores)
{
    struct parts w = parts_of(net, net->weights);
    layer(w.hidden_weights, w.hidden_biases, image, PIXELS, net->active, net->hidden);
    for (int h = 0; h < net->hidden; h++) {
        net->active[h] = fmaxf(net->active[h], 0.0F);
    }
    layer(w.class_weights, w.class_biases, net->active, net->hidden, scores, CLASSES);
}

static int largest(const float *scores)
{
    int best = 0;
    for (int c = 1; c < CLASSES; c++) {
        best = scores[c] > scores[best] ? c : best;
    }
    return best;
}

/* Turns scores into probabilities and returns the cross entropy with the label. */
static double softmax(float *scores, int label)
{
    float top = scores[largest(scores)], own = scores[label], sum = 0.0F;
    for (int c = 0; c < CLASSES; c++) {
        scores[c] = expf(scores[c] - top);
        sum += scores[c];
    }
    for (int c = 0; c < CLASSES; c++) {
        scores[c] /= sum;
    }
    return (double)(logf(sum) - (own - top));
}

/* Adds the gradient of a layer whose outputs' gradient is `blame`. */
static void layer_gradient(float *weights, float *biases, const float *inputs, int in, const float *blame, int out)
{
    for (int o = 0; o < out; o++) {
        float *row = weights + (size_t)o * (size_t)in;
        for (int i = 0; i < in; i++) {
            row[i] += blame[o] * inputs[i];
        }
        biases[o] += blame[o];
    }
}

/* Carries the gradient of the classes' scores back to the hidden layer. */
static void blame_hidden(struct network *net, const float *scores_blame)
{
    const float *weights = parts_of(net, net->weights).class_weights;
    for (int h = 0; h < net->hidden; h++) {
        float sum = 0.0F;
        for (int c = 0; c < CLASSES; c++) {
            sum += weights[c * net->hidden + h] * scores_blame[c];
        }
        net->blame[h] = net->active[h] > 0.0F ? sum : 0.0F;
    }
}

int network_classify(struct network *net, const unsigned char *pixels)
{
    float image[PIXELS], scores[CLASSES];
    scale_image(pixels, image);
    forward(net, image, scores);
    return largest(scores);
}

double network_learn(struct network *net, const unsigned char *pixels, int label)
{
    float image[PIXELS], scores[CLASSES];
    scale_image(pixels, image);
    forward(net, image, scores);
    double loss = softmax(scores, label);
    scores[label] -= 1.0F; /* the gradient of the cross entropy: probabilities less the truth */
    blame_hidden(net, scores);
    struct parts g = parts_of(net, net->gradient);
    layer_gradient(g.class_weights, g.class_biases, net->active, net->hidden, scores, CLASSES);
    layer_gradient(g.hidden_weights, g.hidden_biases, image, PIXELS, net->blame, net->hidden);
    return loss;
}

void network_update(struct network *net, int images)
{
    for (size_t i = 0; i < net->count; i++) {
        net->velocity[i] = MOMENTUM * net->velocity[i] - RATE * net->gradient[i] / (float)images;
        net->weights[i] += net->velocity[i];
    }
    memset(net->gradient, 0, net->count * sizeof(float));
}

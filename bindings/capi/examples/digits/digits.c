/* Data-parallel training: every process holds the whole network and learns from its share of each batch; the gradients
 * are summed over all processes, so that all take the same step. Handwritten digits, plain C, libdure.so.
 *
 *   digits --local 2 --data digits.csv      starts two ranks on this host
 *   mpirun -n 2 digits --data digits.csv    so does any launcher that dureCommInitEnv knows; see README.md
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <dure.h>

#include "network.h"

enum {
    COLUMNS = PIXELS + 1, /* of a row of the data: the image, then which digit it is */
    TEST_EVERY = 7,       /* the last of so many rows is for testing, the others are for learning */
    PATIENCE = 10,        /* seconds that --local leaves the other ranks after one failed */
};

struct options {
    int local, epochs, batch, hidden;
    uint64_t seed;
    const char *data, *log;
};

struct data {
    int rows;
    unsigned char (*row)[COLUMNS];
};

struct job {
    struct options options;
    dureComm_t comm;
    int rank, ranks;
    struct data data;
    struct network net;
    FILE *log; /* on rank 0, if asked for */
};

/* What the processes know together after an epoch. */
struct result {
    double loss, accuracy; /* mean over the images learnt; of the test images */
    uint64_t hash;         /* of the weights and the loss */
};

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    char text[2048]; /* so that lines of several ranks do not mix */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "digits: %s\n", text);
    exit(EXIT_FAILURE);
}

#define CHECK(call) check((call), #call)
static void check(dureResult_t result, const char *call)
{
    if (result != dureSuccess) {
        fail("%s: %s: %s", call, dureGetErrorString(result), dureGetLastError(NULL));
    }
}

/* Before an end that all ranks come to: none may be gone while another still needs it, and be taken for dead. */
static void leave_together(const struct job *job)
{
    CHECK(dureCommDestroy(job->comm));
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory) {
        fail("no memory for %zu x %zu bytes", count, size);
    }
    return memory;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- The data ---------------------------------------------------------------------------------------------------- */

/* Reads "p,p,...,p,digit" with 64 pixels of 0 to 16. Returns 0, or -1 for anything else. */
static int parse_row(const char *line, unsigned char *row)
{
    for (int column = 0; column < COLUMNS; column++) {
        char *end;
        long value = strtol(line, &end, 10);
        int last = column == COLUMNS - 1;
        if (end == line || value < 0 || value > (last ? CLASSES - 1 : 16) || *end != (last ? '\n' : ',')) {
            return -1;
        }
        row[column] = (unsigned char)value;
        line = end + 1;
    }
    return 0;
}

/* Reads the file. The result has no rows if that fails, which is then said. */
static struct data load(const char *path)
{
    struct data data = {0};
    char line[512];
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        data.row = realloc(data.row, (size_t)(data.rows + 1) * COLUMNS);
        if (!data.row) {
            fail("no memory for %d rows", data.rows + 1);
        }
        if (parse_row(line, data.row[data.rows]) != 0) {
            fprintf(stderr, "digits: %s: row %d is not 64 pixels and a digit\n", path, data.rows + 1);
            fclose(file);
            return (struct data){0};
        }
        data.rows++;
    }
    if (!file || ferror(file)) {
        fprintf(stderr, "digits: %s: %s\n", path, strerror(errno));
        data.rows = 0;
    }
    if (file) {
        fclose(file);
    }
    return data;
}

/* Rank 0 reads the data, and all others have them from it: the file need not be on every host. */
static void share_data(struct job *job)
{
    if (job->rank == 0) {
        job->data = load(job->options.data);
    }
    struct data *data = &job->data;
    CHECK(dureBroadcast(&data->rows, &data->rows, 1, dureInt32, 0, job->comm, NULL));
    if (data->rows < TEST_EVERY) {
        leave_together(job);
        fail("rank %d has no data to learn from", job->rank);
    }
    size_t bytes = (size_t)data->rows * COLUMNS;
    if (job->rank != 0) {
        data->row = allocate(1, bytes);
    }
    CHECK(dureBroadcast(data->row, data->row, bytes, dureUint8, 0, job->comm, NULL));
}

static int test_images(const struct data *data)
{
    return data->rows / TEST_EVERY;
}

static int training_images(const struct data *data)
{
    return data->rows - test_images(data);
}

static const unsigned char *test_row(const struct data *data, int image)
{
    return data->row[TEST_EVERY * image + TEST_EVERY - 1];
}

static const unsigned char *training_row(const struct data *data, int image)
{
    return data->row[image + image / (TEST_EVERY - 1)];
}

/* ---- Training ---------------------------------------------------------------------------------------------------- */

/* The same order on all ranks, since all have the same state. */
static void shuffle(int *order, int count, uint64_t *state)
{
    for (int i = count - 1; i > 0; i--) {
        int other = (int)(random_next(state) % (uint64_t)(i + 1));
        int swapped = order[i];
        order[i] = order[other];
        order[other] = swapped;
    }
}

/* One step down the gradient of a batch, of which this rank takes its slice. Returns the loss of the slice. */
static double step(struct job *job, const int *batch)
{
    struct network *net = &job->net;
    int share = job->options.batch / job->ranks;
    double loss = 0.0;
    for (int i = job->rank * share; i < (job->rank + 1) * share; i++) {
        const unsigned char *row = training_row(&job->data, batch[i]);
        loss += network_learn(net, row, row[PIXELS]);
    }
    CHECK(dureAllReduce(net->gradient, net->gradient, net->count, dureFloat, dureSum, job->comm, NULL));
    network_update(net, job->options.batch);
    return loss;
}

/* How many test images of this rank's slice the network takes for what they are. */
static int count_correct(struct job *job)
{
    int images = test_images(&job->data), correct = 0;
    int begin = images * job->rank / job->ranks, end = images * (job->rank + 1) / job->ranks;
    for (int i = begin; i < end; i++) {
        const unsigned char *row = test_row(&job->data, i);
        correct += network_classify(&job->net, row) == row[PIXELS];
    }
    return correct;
}

/* FNV-1a */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    for (const unsigned char *byte = bytes, *end = byte + count; byte < end; byte++) {
        hash = (hash ^ *byte) * 0x100000001b3U;
    }
    return hash;
}

/* Fails unless weights and loss are the same on all ranks, bit by bit. Returns their hash. */
static uint64_t compare_ranks(struct job *job, double loss)
{
    uint64_t hash = hash_bytes(0xcbf29ce484222325U, job->net.weights, job->net.count * sizeof(float));
    hash = hash_bytes(hash, &loss, sizeof loss);
    uint64_t *hashes = allocate((size_t)job->ranks, sizeof *hashes);
    CHECK(dureAllGather(&hash, hashes, 1, dureUint64, job->comm, NULL));
    for (int rank = 1; rank < job->ranks; rank++) {
        if (hashes[rank] != hashes[0]) {
            leave_together(job);
            fail("rank %d: the weights of rank %d differ from those of rank 0", job->rank, rank);
        }
    }
    free(hashes);
    return hash;
}

static struct result epoch(struct job *job, const int *order, int steps)
{
    double sums[2] = {0.0, 0.0}; /* loss, correct */
    for (int i = 0; i < steps; i++) {
        sums[0] += step(job, order + i * job->options.batch);
    }
    sums[1] = count_correct(job);
    CHECK(dureAllReduce(sums, sums, 2, dureDouble, dureSum, job->comm, NULL));
    struct result result = {
        .loss = sums[0] / (steps * job->options.batch),
        .accuracy = sums[1] / test_images(&job->data),
    };
    result.hash = compare_ranks(job, result.loss);
    return result;
}

static void report(const struct job *job, int number, struct result result)
{
    if (job->rank != 0) {
        return;
    }
    printf("epoch %2d  loss %.6f  test accuracy %5.2f %%\n", number, result.loss, 100.0 * result.accuracy);
    if (job->log) {
        fprintf(job->log, "%d,%.17g,%.17g,%016llx\n", number, result.loss, result.accuracy,
                (unsigned long long)result.hash);
    }
}

static void train(struct job *job)
{
    int images = training_images(&job->data);
    int steps = images / job->options.batch; /* what is left over comes in another epoch's order */
    if (steps == 0) {
        leave_together(job);
        fail("a batch of %d is more than the %d images", job->options.batch, images);
    }
    int *order = allocate((size_t)images, sizeof *order);
    for (int i = 0; i < images; i++) {
        order[i] = i;
    }
    if (job->rank == 0) {
        printf("%d process%s, %d images to learn from, %d to test with, %zu weights, batches of %d\n", job->ranks,
               job->ranks == 1 ? "" : "es", images, test_images(&job->data), job->net.count, job->options.batch);
    }
    uint64_t state = ~job->options.seed;
    double start = seconds();
    struct result result = {0};
    for (int number = 1; number <= job->options.epochs; number++) {
        shuffle(order, images, &state);
        result = epoch(job, order, steps);
        report(job, number, result);
    }
    if (job->rank == 0) {
        printf("test accuracy %.2f %% after %.2f s; weights bit-equal on all ranks (%016llx)\n",
               100.0 * result.accuracy, seconds() - start, (unsigned long long)result.hash);
    }
    free(order);
}

static void run(const struct options *options, dureComm_t comm)
{
    struct job job = {.options = *options, .comm = comm};
    CHECK(dureCommUserRank(comm, &job.rank));
    CHECK(dureCommCount(comm, &job.ranks));
    if (options->batch % job.ranks != 0) {
        leave_together(&job);
        fail("a batch of %d cannot be divided among %d processes", options->batch, job.ranks);
    }
    if (job.rank == 0 && options->log && !(job.log = fopen(options->log, "w"))) {
        fail("%s: %s", options->log, strerror(errno));
    }
    if (network_init(&job.net, options->hidden, options->seed) != 0) {
        fail("no memory for %d hidden units", options->hidden);
    }
    share_data(&job);
    if (job.log) {
        fputs("epoch,loss,accuracy,hash\n", job.log);
    }
    train(&job);
    if (job.log && fclose(job.log) != 0) {
        fail("%s: %s", options->log, strerror(errno));
    }
    network_free(&job.net);
    free(job.data.row);
    leave_together(&job);
}

/* ---- Processes --------------------------------------------------------------------------------------------------- */

/* A launcher (torchrun, mpirun, srun, or somebody who sets DURE_RANK, DURE_SIZE and DURE_ROOT) started this process. */
static void run_launched(const struct options *options)
{
    dureComm_t comm;
    CHECK(dureCommInitEnv(&comm, NULL));
    run(options, comm);
}

/* Rank 0 makes the id by which the ranks meet, and writes a copy for each of the others into the pipe. */
static dureUniqueId exchange_id(int rank, int ranks, const int ends[2])
{
    dureUniqueId id;
    if (rank == 0) {
        CHECK(dureGetUniqueId(&id));
        for (int copies = 1; copies < ranks; copies++) {
            if (write(ends[1], &id, sizeof id) != sizeof id) {
                fail("write: %s", strerror(errno));
            }
        }
    }
    close(ends[1]);
    if (rank != 0 && read(ends[0], &id, sizeof id) != sizeof id) {
        fail("rank %d had no id from rank 0", rank);
    }
    close(ends[0]);
    return id;
}

static void run_child(const struct options *options, int rank, const int ends[2])
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody is left behind when the parent is killed */
    dureUniqueId id = exchange_id(rank, options->local, ends);
    dureComm_t comm;
    CHECK(dureCommInitRank(&comm, options->local, id, rank));
    run(options, comm);
    exit(EXIT_SUCCESS);
}

/* Waits for all children. After a failure the others have some time to end by themselves and to say why; then the alarm
 * ends this process, and so its children. */
static int wait_for_children(void)
{
    int failures = 0, status;
    while (wait(&status) > 0) {
        if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS) {
            failures++;
            alarm(PATIENCE);
        }
    }
    return failures;
}

static int run_local(const struct options *options)
{
    int ends[2];
    if (pipe(ends) != 0) {
        fail("pipe: %s", strerror(errno));
    }
    for (int rank = 0; rank < options->local; rank++) {
        pid_t child = fork();
        if (child < 0) {
            fail("fork: %s", strerror(errno));
        }
        if (child == 0) {
            run_child(options, rank, ends);
        }
    }
    close(ends[0]);
    close(ends[1]);
    return wait_for_children() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- The command line -------------------------------------------------------------------------------------------- */

static const struct option OPTIONS[] = {
    {"local", required_argument, NULL, 'n'}, {"data", required_argument, NULL, 'd'},
    {"epochs", required_argument, NULL, 'e'}, {"batch", required_argument, NULL, 'b'},
    {"hidden", required_argument, NULL, 'w'}, {"seed", required_argument, NULL, 's'},
    {"log", required_argument, NULL, 'l'},   {NULL, 0, NULL, 0},
};

static long number(const char *text, long smallest, long largest)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < smallest || value > largest) {
        fail("\"%s\" is not a number from %ld to %ld", text, smallest, largest);
    }
    return value;
}

static struct options parse(int argc, char **argv)
{
    struct options options = {.epochs = 30, .batch = 100, .hidden = 64, .seed = 1, .data = "digits.csv"};
    int letter;
    while ((letter = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        switch (letter) {
        case 'n': options.local = (int)number(optarg, 1, 64); break;
        case 'd': options.data = optarg; break;
        case 'e': options.epochs = (int)number(optarg, 1, 10000); break;
        case 'b': options.batch = (int)number(optarg, 1, 100000); break;
        case 'w': options.hidden = (int)number(optarg, 1, 100000); break;
        case 's': options.seed = (uint64_t)number(optarg, 0, 1L << 62); break;
        case 'l': options.log = optarg; break;
        default: exit(EXIT_FAILURE); /* getopt_long has said why */
        }
    }
    if (optind < argc) {
        fail("what is \"%s\"? (allowed: --local --data --epochs --batch --hidden --seed --log)", argv[optind]);
    }
    return options;
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0); /* an epoch at a time, also into a file */
    if (options.local > 0) {
        return run_local(&options);
    }
    run_launched(&options);
    return EXIT_SUCCESS;
}

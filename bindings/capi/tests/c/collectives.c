/* Every collective and message with every type and operation, between `argv[1]` processes: values are checked element by
 * element. Values are small integers, so that every type holds every result exactly. */
#include "ranks.h"
#include <math.h>

enum { COUNT = 37 };

static const size_t sizes[dureNumTypes] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};

/* The bits of a small non-negative integer in a floating-point type with `exponent` and `mantissa` bits. */
static unsigned small_float(int value, int exponent, int mantissa) {
  if (value == 0) return 0;
  int power = 0;
  while (value >> (power + 1)) power++;
  unsigned fraction = (unsigned)(value - (1 << power)) << mantissa >> power;
  return (unsigned)(power + (1 << (exponent - 1)) - 1) << mantissa | fraction;
}

static void put(void *buffer, size_t index, dureDataType_t type, int value) {
  char *at = (char *)buffer + index * sizes[type];
  uint16_t half;
  switch (type) {
    case dureInt8: *(int8_t *)at = (int8_t)value; break;
    case dureUint8: *(uint8_t *)at = (uint8_t)value; break;
    case dureInt32: *(int32_t *)at = value; break;
    case dureUint32: *(uint32_t *)at = (uint32_t)value; break;
    case dureInt64: *(int64_t *)at = value; break;
    case dureUint64: *(uint64_t *)at = (uint64_t)value; break;
    case dureFloat32: *(float *)at = (float)value; break;
    case dureFloat64: *(double *)at = value; break;
    case dureFloat16: half = (uint16_t)small_float(value, 5, 10); memcpy(at, &half, 2); break;
    case dureBfloat16: half = (uint16_t)small_float(value, 8, 7); memcpy(at, &half, 2); break;
    case dureFloat8e4m3: *(uint8_t *)at = (uint8_t)small_float(value, 4, 3); break;
    case dureFloat8e5m2: *(uint8_t *)at = (uint8_t)small_float(value, 5, 2); break;
    default: EXPECT(0);
  }
}

static void expect(const char *what, const void *buffer, size_t index, dureDataType_t type, int value) {
  char wanted[8] = {0};
  put(wanted, 0, type, value);
  if (memcmp((const char *)buffer + index * sizes[type], wanted, sizes[type]) == 0) return;
  fprintf(stderr, "%s, type %d: element %zu is not %d\n", what, type, index, value);
  _exit(1);
}

/* What rank `rank` contributes: 0 or 1, 1 or 2 where products are formed. */
static int given(int rank, size_t index) {
  return (int)((index + (size_t)rank) % 2);
}

static int combined(dureRedOp_t op, int ranks, size_t index, int base) {
  int result = base + given(0, index);
  for (int rank = 1; rank < ranks; rank++) {
    int next = base + given(rank, index);
    switch ((int)op) {
      case dureSum: case dureAvg: result += next; break;
      case dureProd: result *= next; break;
      case dureMax: result = next > result ? next : result; break;
      case dureMin: result = next < result ? next : result; break;
      case dureBitAnd: result &= next; break;
      case dureBitOr: result |= next; break;
      default: result ^= next; break;
    }
  }
  return op == dureAvg ? result / ranks : result;
}

static int is_float(dureDataType_t type) {
  return type == dureFloat16 || type == dureFloat32 || type == dureFloat64 || type >= dureBfloat16;
}

static void reductions(dureComm_t comm, int rank, int ranks, dureDataType_t type, dureRedOp_t op) {
  uint64_t in[COUNT * 8] = {0}, out[COUNT * 8] = {0};
  size_t all = (size_t)COUNT * (size_t)ranks;
  int base = op == dureProd ? 1 : 0;
  /* Averages of floating-point types are exact when all ranks give the same. */
  int same = op == dureAvg;
#define GIVEN(i) (base + given(same ? 0 : rank, i))
#define WANTED(i) (same ? given(0, i) : combined(op, ranks, i, base))
  for (size_t i = 0; i < all; i++) put(in, i, type, GIVEN(i));
  memset(out, 0xff, sizeof out);
  CHECK(dureAllReduce(in, out, COUNT, type, op, comm, NULL));
  for (size_t i = 0; i < COUNT; i++) expect("all-reduce", out, i, type, WANTED(i));
  CHECK(dureReduce(in, out, COUNT, type, op, ranks - 1, comm, NULL));
  for (size_t i = 0; i < COUNT && rank == ranks - 1; i++) expect("reduce", out, i, type, WANTED(i));
  CHECK(dureReduceScatter(in, out, COUNT, type, op, comm, NULL));
  for (size_t i = 0; i < COUNT; i++) expect("reduce-scatter", out, i, type, WANTED((size_t)rank * COUNT + i));
  CHECK(dureAllReduce(in, in, COUNT, type, op, comm, NULL));
  for (size_t i = 0; i < COUNT; i++) expect("all-reduce in place", in, i, type, WANTED(i));
}

static int mark(int from, int to, size_t index) {
  return (int)((size_t)(from * 3 + to) + index) % 8;
}

static void moves(dureComm_t comm, int rank, int ranks, dureDataType_t type) {
  uint64_t in[COUNT * 8] = {0}, out[COUNT * 8] = {0};
  size_t all = (size_t)COUNT * (size_t)ranks;
  for (size_t i = 0; i < all; i++) put(in, i, type, mark(rank, (int)(i / COUNT), i % COUNT));
  CHECK(dureAlltoAll(in, out, COUNT, type, comm, NULL));
  for (size_t i = 0; i < all; i++) expect("all-to-all", out, i, type, mark((int)(i / COUNT), rank, i % COUNT));
  CHECK(dureAllGather(in, out, COUNT, type, comm, NULL));
  for (size_t i = 0; i < all; i++) expect("all-gather", out, i, type, mark((int)(i / COUNT), 0, i % COUNT));
  for (int root = 0; root < ranks; root += ranks > 1 ? ranks - 1 : 1) {
    CHECK(dureBroadcast(rank == root ? in : NULL, out, COUNT, type, root, comm, NULL));
    for (size_t i = 0; i < COUNT; i++) expect("broadcast", out, i, type, mark(root, 0, i));
    memcpy(out, in, COUNT * sizes[type]);
    CHECK(dureBcast(out, COUNT, type, root, comm, NULL));
    for (size_t i = 0; i < COUNT; i++) expect("bcast", out, i, type, mark(root, 0, i));
    CHECK(dureGather(in, rank == root ? out : NULL, COUNT, type, root, comm, NULL));
    for (size_t i = 0; i < all && rank == root; i++) expect("gather", out, i, type, mark((int)(i / COUNT), 0, i % COUNT));
    CHECK(dureScatter(rank == root ? in : NULL, out, COUNT, type, root, comm, NULL));
    for (size_t i = 0; i < COUNT; i++) expect("scatter", out, i, type, mark(root, rank, i));
  }
  int next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
  CHECK(dureGroupStart());
  CHECK(dureSend(in, COUNT, type, next, comm, NULL));
  CHECK(dureRecv(out, COUNT, type, previous, comm, NULL));
  CHECK(dureGroupEnd());
  for (size_t i = 0; i < COUNT; i++) expect("send and receive", out, i, type, mark(previous, 0, i));
}

/* Rank r sends r + s + 1 elements to rank s, with a gap of one element before each block. */
static void v_forms(dureComm_t comm, int rank, int ranks, dureDataType_t type) {
  uint64_t in[COUNT * 8] = {0}, out[COUNT * 8] = {0};
  size_t sent[8] = {0}, received[8] = {0}, from[8] = {0}, to[8] = {0}, own[8] = {0};
  size_t at = 0, end = 0, sum = 0;
  for (int s = 0; s < ranks; s++) {
    sent[s] = received[s] = (size_t)(rank + s + 1);
    from[s] = at + 1;
    for (size_t i = 0; i < sent[s]; i++) put(in, from[s] + i, type, mark(rank, s, i));
    at = from[s] + sent[s];
    to[s] = end;
    end += received[s];
    own[s] = (size_t)s + 1;
    sum += own[s];
  }
  CHECK(dureAllToAllv(in, sent, from, out, received, NULL, type, comm, NULL));
  for (int s = 0; s < ranks; s++)
    for (size_t i = 0; i < received[s]; i++) expect("all-to-all-v", out, to[s] + i, type, mark(s, rank, i));

  for (size_t i = 0; i < sum; i++) put(in, i, type, mark(rank, 0, i));
  CHECK(dureAllGatherv(in, own[rank], out, own, NULL, type, comm, NULL));
  size_t start = 0;
  for (int s = 0; s < ranks; s++)
    for (size_t i = 0; i < own[s]; i++) expect("all-gather-v", out, start++, type, mark(s, 0, i));
  CHECK(dureGatherv(in, own[rank], out, rank == 0 ? own : NULL, NULL, type, 0, comm, NULL));
  start = 0;
  for (int s = 0; s < ranks && rank == 0; s++)
    for (size_t i = 0; i < own[s]; i++) expect("gather-v", out, start++, type, mark(s, 0, i));
  CHECK(dureScatterv(in, rank == 0 ? own : NULL, NULL, out, own[rank], type, 0, comm, NULL));
  start = 0;
  for (int s = 0; s < rank; s++) start += own[s];
  for (size_t i = 0; i < own[rank]; i++) expect("scatter-v", out, i, type, mark(0, 0, start + i));
  for (size_t i = 0; i < sum; i++) put(in, i, type, given(rank, i));
  CHECK(dureReduceScatterv(in, own, NULL, out, own[rank], type, dureMax, comm, NULL));
  for (size_t i = 0; i < own[rank]; i++) expect("reduce-scatter-v", out, i, type, combined(dureMax, ranks, start + i, 0));
}

static void body(meeting_t *meeting, int rank, int ranks) {
  dureComm_t comm = meet(meeting, rank, ranks);
  int count = 0, me = -1;
  CHECK(dureCommCount(comm, &count));
  CHECK(dureCommUserRank(comm, &me));
  EXPECT(count == ranks && me == rank);
  const dureRedOp_t ops[] = {dureSum, dureProd, dureMax, dureMin, dureAvg, dureBitAnd, dureBitOr, dureBitXor};
  for (int type = 0; type < dureNumTypes; type++) {
    for (int op = 0; op < 8; op++)
      if (op < 5 || !is_float((dureDataType_t)type)) reductions(comm, rank, ranks, (dureDataType_t)type, ops[op]);
    moves(comm, rank, ranks, (dureDataType_t)type);
    v_forms(comm, rank, ranks, (dureDataType_t)type);
    CHECK(dureBarrier(comm, NULL));
  }
  CHECK(dureCommFinalize(comm));
  CHECK(dureCommDestroy(comm));
}

int main(int argc, char **argv) {
  return run_ranks(argument(argc, argv, 2), body);
}

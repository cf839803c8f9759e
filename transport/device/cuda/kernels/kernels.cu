/* Reductions and scaling on a GPU, bit for bit what transport/device/src/host computes.
 *
 * make_ptx.py makes kernels.ptx of this file, which is what the driver is given; run it after each change. The double of the driver
 * (double/) compiles the same text as C++, so no header of CUDA's is included, and arithmetic is on bits wherever the format is
 * not the machine's own.
 *
 * A thread takes a word at a time: an element of 4 or 8 bytes, or 4 bytes of smaller ones. Elements beyond the last whole word, and
 * all of them where a buffer does not begin at a word, are read and written byte by byte.
 */

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

#define INLINE static __device__ __forceinline__

/* As dure_device.h numbers them. */
enum { SUM, PROD, MAX, MIN };

/* SOURCES in src/kernels.rs. */
enum { SOURCES = 16 };

/* ReduceJob in src/kernels.rs. */
struct Reduce {
  const void *srcs[SOURCES];
  void *dst;
  u64 count;
  u32 sources;
  u32 op;
};

/* ScaleJob in src/kernels.rs. `by` holds the factor or divisor: of integers in 64 bits, of double its bits, of other floating-point
 * types the bits of a float. */
struct Scale {
  const void *src;
  void *dst;
  u64 count;
  u64 by;
  u32 over;
  u32 reserved;
};

/* ---- Types: how elements are read, combined, written and scaled ----------------------------------------------------------- */

INLINE bool chooses(u32 op) { return op >= MAX; }

/* S is the type with its sign, U without, W what it is divided in. */
template <class S, class U, class W>
struct Integer {
  typedef U Bits;
  typedef S Value;

  INLINE S read(U bits, u32) { return (S)bits; }
  INLINE U write(S value, u32) { return (U)value; }

  INLINE S apply(u32 op, S a, S b) {
    switch (op) {
    case SUM: return (S)((U)a + (U)b);
    case PROD: return (S)((U)a * (U)b);
    case MAX: return a > b ? a : b;
    default: return a < b ? a : b;
    }
  }

  INLINE U scale(U bits, bool over, u64 by) {
    return over ? (U)((W)(S)bits / (W)by) : (U)(bits * (U)by);
  }
};

typedef Integer<i8, u8, i64> Int8;
typedef Integer<u8, u8, u64> Uint8;
typedef Integer<i32, u32, i64> Int32;
typedef Integer<u32, u32, u64> Uint32;
typedef Integer<i64, u64, i64> Int64;
typedef Integer<u64, u64, u64> Uint64;

/* What a maximum or minimum compares: integers that order as the numbers do, -0 before +0, and NaN as the one that wins. `lowest` is
 * the sign alone, `top` the largest magnitude that is not NaN. */
template <class I>
INLINE I flip_negative(I value, I lowest) {
  return value < 0 ? value ^ ~lowest : value;
}

template <class I>
INLINE I ordered(I bits, I lowest, I top, u32 op) {
  if ((bits & ~lowest) > top) return op == MIN ? lowest : ~lowest;
  return flip_negative(bits, lowest);
}

/* A value is the bits of a float, or an ordered integer where the operation chooses. F says how a type widens and narrows. */
template <class F>
struct Floating {
  typedef typename F::Bits Bits;
  typedef u32 Value;

  INLINE i32 lowest() { return (i32)(0xffffffffu << (8 * sizeof(Bits) - 1)); }
  INLINE i32 extended(Bits bits) { return (i32)((u32)bits << (32 - 8 * sizeof(Bits))) >> (32 - 8 * sizeof(Bits)); }

  INLINE u32 read(Bits bits, u32 op) {
    return chooses(op) ? (u32)ordered<i32>(extended(bits), lowest(), F::TOP, op) : F::widen(bits);
  }

  INLINE Bits write(u32 value, u32 op) {
    return chooses(op) ? (Bits)flip_negative<i32>((i32)value, lowest()) : F::narrow(value);
  }

  INLINE u32 apply(u32 op, u32 a, u32 b) {
    switch (op) {
    case SUM: return __float_as_uint(__uint_as_float(a) + __uint_as_float(b));
    case PROD: return __float_as_uint(__uint_as_float(a) * __uint_as_float(b));
    case MAX: return (i32)a > (i32)b ? a : b;
    default: return (i32)a < (i32)b ? a : b;
    }
  }

  INLINE Bits scale(Bits bits, bool over, u64 by) {
    float x = __uint_as_float(F::widen(bits)), y = __uint_as_float((u32)by);
    return F::narrow(__float_as_uint(over ? x / y : x * y));
  }
};

INLINE bool is_nan(u32 bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }

struct F32 {
  typedef u32 Bits;
  enum { TOP = 0x7f800000 };
  INLINE u32 widen(u32 bits) { return bits; }
  INLINE u32 narrow(u32 value) { return is_nan(value) ? 0x7fffffffu : value; }
};

/* The upper half of a float. */
struct Bf16 {
  typedef u16 Bits;
  enum { TOP = 0x7f80 };
  INLINE u32 widen(u16 bits) { return (u32)bits << 16; }
  INLINE u16 narrow(u32 value) {
    u32 rounded = value + 0x7fffu + ((value >> 16) & 1u);
    return (u16)((is_nan(value) ? 0x7fffffffu : rounded) >> 16);
  }
};

/* A format of fewer bits than float in exponent and mantissa; transport/device/src/small.rs explains each step. OVERFLOWS is what a
 * magnitude too large becomes. */
template <class B, u32 EXPONENT, u32 MANTISSA, u32 LARGEST, bool INFINITE, u32 OVERFLOWS>
struct Small {
  typedef B Bits;
  enum : u32 {
    TOP = LARGEST,
    MAGNITUDE = (1u << (EXPONENT + MANTISSA)) - 1u,
    SIGN_UP = 31u - EXPONENT - MANTISSA,
    REBIAS = (128u - (1u << (EXPONENT - 1u))) << 23,
    DROPPED = 23u - MANTISSA,
    SMALLEST = REBIAS + (1u << 23),
    SHIFT = REBIAS + ((DROPPED + 1u) << 23)
  };

  INLINE u32 widen(B bits) {
    u32 magnitude = bits & MAGNITUDE;
    u32 sign = (bits & ~MAGNITUDE) << SIGN_UP;
    u32 moved = (magnitude << DROPPED) + REBIAS;
    float subnormal = __uint_as_float(moved + (1u << 23)) - __uint_as_float(SMALLEST);
    u32 finite = magnitude >> MANTISSA == 0 ? __float_as_uint(subnormal) : moved;
    u32 number = INFINITE && magnitude == TOP ? 0x7f800000u : finite;
    return sign | (magnitude > TOP ? 0x7fffffffu : number);
  }

  INLINE B narrow(u32 value) {
    u32 magnitude = value & 0x7fffffffu;
    u32 sign = (value & 0x80000000u) >> SIGN_UP;
    u32 subnormal = __float_as_uint(__uint_as_float(magnitude) + __uint_as_float(SHIFT)) - SHIFT;
    u32 odd = (magnitude >> DROPPED) & 1u;
    u32 half = (1u << (DROPPED - 1u)) - 1u;
    u32 normal = (magnitude - REBIAS + half + odd) >> DROPPED;
    u32 rounded = magnitude < SMALLEST ? subnormal : normal;
    u32 number = rounded > OVERFLOWS ? (u32)OVERFLOWS : rounded;
    return (B)(is_nan(value) ? (u32)MAGNITUDE : sign | number);
  }
};

typedef Small<u16, 5, 10, 0x7c00, true, 0x7c00> F16;
typedef Small<u8, 4, 3, 0x7e, false, 0x7e> E4M3;
typedef Small<u8, 5, 2, 0x7c, true, 0x7b> E5M2;

struct Double {
  typedef u64 Bits;
  typedef u64 Value;

  INLINE i64 lowest() { return (i64)0x8000000000000000ull; }
  INLINE double number(u64 bits) { return __longlong_as_double((i64)bits); }
  INLINE u64 bits_of(double number) { return (u64)__double_as_longlong(number); }
  INLINE u64 canonical(u64 bits) {
    return (bits & 0x7fffffffffffffffull) > 0x7ff0000000000000ull ? 0x7fffffffffffffffull : bits;
  }

  INLINE u64 read(u64 bits, u32 op) {
    return chooses(op) ? (u64)ordered<i64>((i64)bits, lowest(), 0x7ff0000000000000ll, op) : bits;
  }

  INLINE u64 write(u64 value, u32 op) {
    return chooses(op) ? (u64)flip_negative<i64>((i64)value, lowest()) : canonical(value);
  }

  INLINE u64 apply(u32 op, u64 a, u64 b) {
    switch (op) {
    case SUM: return bits_of(number(a) + number(b));
    case PROD: return bits_of(number(a) * number(b));
    case MAX: return (i64)a > (i64)b ? a : b;
    default: return (i64)a < (i64)b ? a : b;
    }
  }

  INLINE u64 scale(u64 bits, bool over, u64 by) {
    return canonical(bits_of(over ? number(bits) / number(by) : number(bits) * number(by)));
  }
};

/* ---- Loops ---------------------------------------------------------------------------------------------------------------- */

template <u32 BYTES> struct WordOf { typedef u32 Type; };
template <> struct WordOf<8> { typedef u64 Type; };

/* One element, from or to any byte. */
template <class B>
INLINE B load(const void *from, u64 at) {
  const u8 *bytes = (const u8 *)from + at * sizeof(B);
  u64 bits = 0;
  for (u32 k = 0; k < sizeof(B); k++) bits |= (u64)bytes[k] << (8 * k);
  return (B)bits;
}

template <class B>
INLINE void store(void *to, u64 at, B value) {
  u8 *bytes = (u8 *)to + at * sizeof(B);
  for (u32 k = 0; k < sizeof(B); k++) bytes[k] = (u8)((u64)value >> (8 * k));
}

/* Element k of a word, and in its place. */
template <class B, class W>
INLINE B part(W word, u32 k) { return (B)(word >> (8 * sizeof(B) * k)); }

template <class B, class W>
INLINE W placed(B bits, u32 k) { return (W)bits << (8 * sizeof(B) * k); }

/* Where a thread begins, and how far all threads go in one step. */
INLINE u64 first() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
INLINE u64 stride() { return (u64)gridDim.x * blockDim.x; }

template <class T>
INLINE void reduce(const Reduce &job) {
  typedef typename T::Bits Bits;
  typedef typename T::Value Value;
  typedef typename WordOf<sizeof(Bits)>::Type Word;
  const u32 each = sizeof(Word) / sizeof(Bits);

  u64 addresses = (u64)job.dst;
#pragma unroll 1
  for (u32 s = 0; s < job.sources; s++) addresses |= (u64)job.srcs[s];
  u64 words = addresses % sizeof(Word) == 0 ? job.count / each : 0;

#pragma unroll 1
  for (u64 at = first(); at < words; at += stride()) {
    Value values[each];
    Word word = ((const Word *)job.srcs[0])[at];
#pragma unroll
    for (u32 k = 0; k < each; k++) values[k] = T::read(part<Bits, Word>(word, k), job.op);
#pragma unroll 1
    for (u32 s = 1; s < job.sources; s++) {
      word = ((const Word *)job.srcs[s])[at];
#pragma unroll
      for (u32 k = 0; k < each; k++) values[k] = T::apply(job.op, values[k], T::read(part<Bits, Word>(word, k), job.op));
    }
    word = 0;
#pragma unroll
    for (u32 k = 0; k < each; k++) word |= placed<Bits, Word>(T::write(values[k], job.op), k);
    ((Word *)job.dst)[at] = word;
  }

#pragma unroll 1
  for (u64 at = words * each + first(); at < job.count; at += stride()) {
    Value value = T::read(load<Bits>(job.srcs[0], at), job.op);
#pragma unroll 1
    for (u32 s = 1; s < job.sources; s++) value = T::apply(job.op, value, T::read(load<Bits>(job.srcs[s], at), job.op));
    store<Bits>(job.dst, at, T::write(value, job.op));
  }
}

template <class T>
INLINE void scale(const Scale &job) {
  typedef typename T::Bits Bits;
  typedef typename WordOf<sizeof(Bits)>::Type Word;
  const u32 each = sizeof(Word) / sizeof(Bits);
  u64 words = ((u64)job.src | (u64)job.dst) % sizeof(Word) == 0 ? job.count / each : 0;

#pragma unroll 1
  for (u64 at = first(); at < words; at += stride()) {
    Word word = ((const Word *)job.src)[at], scaled = 0;
#pragma unroll
    for (u32 k = 0; k < each; k++)
      scaled |= placed<Bits, Word>(T::scale(part<Bits, Word>(word, k), job.over != 0, job.by), k);
    ((Word *)job.dst)[at] = scaled;
  }

#pragma unroll 1
  for (u64 at = words * each + first(); at < job.count; at += stride())
    store<Bits>(job.dst, at, T::scale(load<Bits>(job.src, at), job.over != 0, job.by));
}

/* ---- Entries, one a type, named as Dtype::name names it ------------------------------------------------------------------- */

#define ENTRIES(EACH) \
  EACH(int8, Int8) \
  EACH(uint8, Uint8) \
  EACH(int32, Int32) \
  EACH(uint32, Uint32) \
  EACH(int64, Int64) \
  EACH(uint64, Uint64) \
  EACH(half, Floating<F16>) \
  EACH(float, Floating<F32>) \
  EACH(double, Double) \
  EACH(bfloat16, Floating<Bf16>) \
  EACH(f8e4m3, Floating<E4M3>) \
  EACH(f8e5m2, Floating<E5M2>)

#define ENTRY(NAME, TYPE) \
  extern "C" __global__ void dure_reduce_##NAME(const __grid_constant__ Reduce job) { reduce<TYPE>(job); } \
  extern "C" __global__ void dure_scale_##NAME(const __grid_constant__ Scale job) { scale<TYPE>(job); }

ENTRIES(ENTRY)

/* A plug-in that finds out where oneCCL's communicators have their functions: it fills all that lies behind the unique id
 * with functions of its own, each of which notes its place when it is called. */
#include <malloc.h>
#include <stddef.h>

enum { INIT_ID = 2, INIT_COMM = 3, BEGIN = 24 + 4096 };

/* Bytes from the begin of the structure to what was called last. */
size_t probed;
#define PLACE(n)                                 \
  static int place_##n(void) {                   \
    probed = BEGIN + (n - 100) * sizeof(void *); \
    return 0;                                    \
  }
#define TEN(macro, n) \
  macro(n##0) macro(n##1) macro(n##2) macro(n##3) macro(n##4) macro(n##5) macro(n##6) macro(n##7) macro(n##8) macro(n##9)
#define ALL(macro) TEN(macro, 10) TEN(macro, 11) TEN(macro, 12) TEN(macro, 13) TEN(macro, 14) TEN(macro, 15)
#define NAME(n) place_##n,
ALL(PLACE)

static int (*const places[])(void) = {ALL(NAME)};

static int init_id(void *id) {
  (void)id;
  return 0;
}

static int init_comm(void **comm) {
  const size_t room = malloc_usable_size(*comm);
  for (size_t n = 0; n < sizeof places / sizeof *places && BEGIN + (n + 1) * sizeof(void *) <= room; n++)
    ((int (**)(void))((char *)*comm + BEGIN))[n] = places[n];
  return 0;
}

void *onecclPluginCall(int call) {
  return call == INIT_ID ? (void *)init_id : call == INIT_COMM ? (void *)init_comm : NULL;
}

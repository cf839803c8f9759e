/*
 * dure_oneccl.h: what oneCCL's header names and does not let a program call, where Dure is oneCCL's back end.
 *
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * oneCCL takes one function from a plug-in, onecclPluginCall, and asks it for others by number. Dure's answers to further
 * numbers, which no oneCCL uses, and the functions below are inline and ask for those: nothing is linked. Where CCL_PLUGIN
 * names no Dure they return onecclNotImplemented. Include it after, or instead of, oneapi/ccl.h.
 */
#ifndef DURE_ONECCL_H_
#define DURE_ONECCL_H_

#include <dlfcn.h>
#include <oneapi/ccl.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DURE_ONECCL_FINALIZE 0x44757201
#define DURE_ONECCL_ABORT 0x44757202
#define DURE_ONECCL_ASYNC_ERROR 0x44757203
#define DURE_ONECCL_LAST_ERROR 0x44757204

/* The function of the plug-in for a number; NULL where there is none. The plug-in is loaded once oneCCL has been called. */
static inline void *dureOnecclFind(int number) {
  const char *path = getenv("CCL_PLUGIN");
  void *plugin = path == NULL ? NULL : dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  void *(*entry)(int) = plugin == NULL ? NULL : (void *(*)(int))dlsym(plugin, "onecclPluginCall");
  return entry == NULL ? NULL : entry(number);
}

/* Waits for all calls on the communicator, and leaves it together with its other ranks. Only onecclCommDestroy may follow.
 * Returns: the communicator's first error, if there was one. */
static inline onecclResult_t dureOnecclCommFinalize(onecclComm_t comm) {
  onecclResult_t (*finalize)(onecclComm_t) = (onecclResult_t(*)(onecclComm_t))dureOnecclFind(DURE_ONECCL_FINALIZE);
  return finalize == NULL ? onecclNotImplemented : finalize(comm);
}

/* Ends the communicator on all ranks, and what they wait for in it: there it is onecclError. It may be called by another
 * thread than the one that waits. Only onecclCommDestroy may follow, and should. */
static inline onecclResult_t dureOnecclCommAbort(onecclComm_t comm) {
  onecclResult_t (*abort)(onecclComm_t) = (onecclResult_t(*)(onecclComm_t))dureOnecclFind(DURE_ONECCL_ABORT);
  return abort == NULL ? onecclNotImplemented : abort(comm);
}

/* Writes how the communicator is: onecclSuccess, or the error that ended it. This rank need not have made a call since. */
static inline onecclResult_t dureOnecclCommGetAsyncError(onecclComm_t comm, onecclResult_t *asyncError) {
  onecclResult_t (*ask)(onecclComm_t, onecclResult_t *) =
      (onecclResult_t(*)(onecclComm_t, onecclResult_t *))dureOnecclFind(DURE_ONECCL_ASYNC_ERROR);
  return ask == NULL ? onecclNotImplemented : ask(comm, asyncError);
}

/* The whole text of the last error, of which onecclGetLastError has 255 characters: on this communicator or, for NULL, of this
 * thread. Empty if there was none. It stays until the same thread makes a call that fails, or calls this function again. */
static inline const char *dureOnecclGetLastError(onecclComm_t comm) {
  const char *(*ask)(onecclComm_t) = (const char *(*)(onecclComm_t))dureOnecclFind(DURE_ONECCL_LAST_ERROR);
  return ask == NULL ? "" : ask(comm);
}

#ifdef __cplusplus
}
#endif

#endif

/* A double of furiosa-smi: two NPUs on one PCIe switch. Names and numbers: furiosa_smi.h of furiosa-ai/libfuriosa-kubernetes. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { OK = 0, NOT_FOUND = 4, UNINITIALIZED = 14 };
enum { UNKNOWN = 0, BRIDGE = 30, NOC = 70 };

#pragma GCC visibility push(default)

static bool ready;

int furiosa_smi_init(void) {
  ready = true;
  return OK;
}

int furiosa_smi_get_device_handle_by_bdf(const char *bdf, uint32_t *handle) {
  if (!ready) return UNINITIALIZED;
  *handle = strcmp(bdf, "0000:01:00.0") == 0;
  return *handle || strcmp(bdf, "0000:00:00.0") == 0 ? OK : NOT_FOUND;
}

int furiosa_smi_get_device_to_device_link_type(uint32_t a, uint32_t b, int *type) {
  if (!ready) return UNINITIALIZED;
  *type = a == b ? NOC : a < 2 && b < 2 ? BRIDGE : UNKNOWN;
  return OK;
}

int furiosa_smi_get_p2p_accessible(uint32_t a, uint32_t b, bool *accessible) {
  if (!ready) return UNINITIALIZED;
  *accessible = a < 2 && b < 2;
  return OK;
}

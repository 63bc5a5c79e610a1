/* The part of libnvidia-ml.so.1 that the inventory asks, for machines without a GPU.
 *
 * FAKE_GPUS=4             how many devices; without it the driver isn't loaded
 * FAKE_GPU_USED=0:30,2:5  GiB in use on a device
 * FAKE_GPU_PROCESS=1:77:8 a process on a device, and its GiB
 * FAKE_GPU_MIG=3          devices cut into two instances
 * FAKE_CUDA=12040         the driver's CUDA version, as NVML writes it
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB (1024ULL * 1024 * 1024)
#define TOTAL (80 * GIB)
enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NOT_LOADED = 9 };

/* A handle is a number: device + 1, and 100 for each step to an instance's slot. */
typedef unsigned long handle;
static int device_of(handle h) { return (int)(h % 100) - 1; }
static int slot_of(handle h) { return (int)(h / 100) - 1; }

static int count(void) {
    const char *text = getenv("FAKE_GPUS");
    return text ? atoi(text) : 0;
}

/* The value after "device:" in a list such as "0:30,2:5"; NULL where there is none. */
static const char *entry(const char *variable, int device) {
    static char rest[64];
    const char *at = getenv(variable);
    while (at && *at) {
        char *end;
        if (strtol(at, &end, 10) == device) {
            snprintf(rest, sizeof rest, "%s", *end == ':' ? end + 1 : "");
            rest[strcspn(rest, ",")] = 0;
            return rest;
        }
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
    return NULL;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return count() ? OK : NOT_LOADED; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == NOT_LOADED ? "Driver Not Loaded" : "Fake"; }

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "550.54.15");
    return OK;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    const char *text = getenv("FAKE_CUDA");
    *version = text ? atoi(text) : 12040;
    return OK;
}
int nvmlDeviceGetCount_v2(unsigned *number) { *number = count(); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *found) {
    *found = index + 1;
    return (int)index < count() ? OK : NOT_FOUND;
}
int nvmlDeviceGetName(handle h, char *text, unsigned size) {
    snprintf(text, size, slot_of(h) < 0 ? "Fake H100" : "Fake H100 MIG 3g.40gb");
    return OK;
}
int nvmlDeviceGetUUID(handle h, char *text, unsigned size) {
    const char *kind = slot_of(h) < 0 ? "GPU" : "MIG";
    snprintf(text, size, "%s-%08d-0000-4000-8000-%012d", kind, device_of(h), slot_of(h) + 1);
    return OK;
}
struct memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(handle h, struct memory *memory) {
    const char *used = entry("FAKE_GPU_USED", device_of(h));
    memory->total = slot_of(h) < 0 ? TOTAL : TOTAL / 2;
    memory->used = used && slot_of(h) < 0 ? strtoull(used, NULL, 10) * GIB : 0;
    memory->free = memory->total - memory->used;
    return OK;
}
struct load { unsigned gpu, memory; };
int nvmlDeviceGetUtilizationRates(handle h, struct load *load) {
    load->gpu = entry("FAKE_GPU_USED", device_of(h)) ? 70 : 0;
    load->memory = 0;
    return slot_of(h) < 0 ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetBrand(handle h, int *brand) { (void)h; *brand = 2; return OK; }
int nvmlDeviceGetCudaComputeCapability(handle h, int *major, int *minor) {
    (void)h; *major = 9; *minor = 0;
    return OK;
}
int nvmlDeviceGetMigMode(handle h, unsigned *now, unsigned *later) {
    *now = *later = entry("FAKE_GPU_MIG", device_of(h)) != NULL;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(handle h, unsigned *number) {
    *number = entry("FAKE_GPU_MIG", device_of(h)) ? 7 : 0;
    return OK;
}
int nvmlDeviceGetMigDeviceHandleByIndex(handle h, unsigned slot, handle *found) {
    *found = h + 100 * (slot + 1);
    return slot < 2 ? OK : NOT_FOUND;
}
struct process { unsigned pid; unsigned long long memory; unsigned instance, compute; };
int nvmlDeviceGetComputeRunningProcesses_v3(handle h, unsigned *number, struct process *found) {
    const char *text = slot_of(h) < 0 ? entry("FAKE_GPU_PROCESS", device_of(h)) : NULL;
    unsigned room = *number;
    *number = text != NULL;
    if (!text) return OK;
    if (!found || room < 1) return TOO_SMALL;
    unsigned long long gib = 0;
    memset(found, 0, sizeof *found);
    sscanf(text, "%u:%llu", &found->pid, &gib);
    found->memory = gib * GIB;
    return OK;
}

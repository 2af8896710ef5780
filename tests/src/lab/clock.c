/* A wall clock that can be set while the program runs, and no other clock with it: the offset, in
 * nanoseconds, is the first eight bytes of a file. By the next eight the machine has slept: the
 * wall clock and the one that goes on in a suspend are ahead, the one that stands still is not. It
 * is mapped before the program begins, so that a program which shuts itself off from all files sees
 * it move as well; libfaketime opens its file each time. Whether something keeps it right is as
 * SPA_LAB_KEPT says, where that is set. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static const int64_t second = 1000000000;
static const volatile int64_t *offsets; /* set by hand, slept */
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void map_offset(void) {
    real = dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("SPA_LAB_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        abort(); /* a test must not run on the wrong clock */
    void *place = mmap(NULL, 2 * sizeof *offsets, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (place == MAP_FAILED || !real)
        abort();
    offsets = place;
}

static void put_ahead(struct timespec *now, int64_t by) {
    int64_t ns = now->tv_nsec + by % second;
    now->tv_sec += by / second + (ns >= second) - (ns < 0);
    now->tv_nsec = (ns + second) % second;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (result != 0 || !offsets)
        return result;
    if (id == CLOCK_REALTIME)
        put_ahead(now, offsets[0] + offsets[1]);
    if (id == CLOCK_BOOTTIME)
        put_ahead(now, offsets[1]);
    return result;
}

int adjtimex(struct timex *told) {
    static int (*real)(struct timex *);
    if (!real)
        real = dlsym(RTLD_NEXT, "adjtimex");
    int state = real(told);
    const char *kept = getenv("SPA_LAB_KEPT");
    if (!kept || state < 0)
        return state;
    int is_kept = *kept == 'y';
    told->status = is_kept ? 0 : STA_UNSYNC;
    told->maxerror = is_kept ? 5000 : 16000000;
    return is_kept ? TIME_OK : TIME_ERROR;
}

// The clock of a program that runs some fifty times slower under callgrind: preloaded, its time passes as slowly. So no
// timer expires that would not at full speed, however busy the machine is; and each wake-up would be counted.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

enum { SLOWER = 50 };
static const long long SECOND = 1000000000;

static long (*call)(long, ...);

__attribute__((constructor)) static void find(void) {
    call = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
}

static long long nanoseconds(const struct timespec *time) {
    return time->tv_sec * SECOND + time->tv_nsec;
}

static struct timespec slowed(const struct timespec *time) {
    long long n = nanoseconds(time) / SLOWER;
    return (struct timespec){n / SECOND, n % SECOND};
}

static struct timespec real(const struct timespec *time) {
    // For ever is for ever.
    if (time->tv_sec > LLONG_MAX / SECOND / SLOWER - 1) return *time;
    long long n = nanoseconds(time) * SLOWER;
    return (struct timespec){n / SECOND, n % SECOND};
}

// Dates stay as they are.
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = call(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_MONOTONIC) *now = slowed(now);
    return failed;
}

int epoll_wait(int fd, struct epoll_event *events, int room, int timeout) {
    if (timeout > 0) timeout = timeout > INT_MAX / SLOWER ? INT_MAX : timeout * SLOWER;
    return call(SYS_epoll_pwait, fd, events, room, timeout, NULL, 8);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left) {
    struct timespec longer = real(time);
    if (!call(SYS_clock_nanosleep, clock, flags, &longer, left)) return 0;
    if (left) *left = slowed(left);
    return errno;
}

int nanosleep(const struct timespec *time, struct timespec *left) {
    return (errno = clock_nanosleep(CLOCK_MONOTONIC, 0, time, left)) ? -1 : 0;
}

// Rust waits for locks by this.
long syscall(long number, long a, long b, long c, long d, long e, long f) {
    struct timespec longer;
    int command = b & FUTEX_CMD_MASK, waits = command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET;
    if (number == SYS_futex && waits && d && !(b & FUTEX_CLOCK_REALTIME)) {
        longer = real((const struct timespec *)d);
        d = (long)&longer;
    }
    return call(number, a, b, c, d, e, f);
}

/* Makes one call of the C library fail, for benchmarks/surroundings.py: gcc -shared -fPIC -o failing_calls.so failing_calls.c
 *
 * fail_call(name, nth, error, lasting): the nth call from now on of the function `name` (of any of them where it is
 * empty) gives -1, or NULL, and errno `error`; with `lasting` so does every later one. Counted in this process and in
 * what it forks, not in what it executes. failed_calls() says how many have failed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static char wanted[32];
static int left, wanted_error, lasting, failed;

void fail_call(const char *name, int nth, int error, int for_good) {
    strncpy(wanted, name, sizeof wanted - 1);
    left = nth, wanted_error = error, lasting = for_good, failed = 0;
}

int failed_calls(void) { return failed; }

static int fails(const char *name) {
    if (left == 0 || (wanted[0] && strcmp(wanted, name) != 0)) return 0;
    if (left > 1) { left--; return 0; }
    if (!lasting) left = 0;
    failed++;
    errno = wanted_error;
    return 1;
}

/* Of files, pipes and terminals; not of the kernel's own descriptors, which no disk and no reader lies behind. */
static int fails_on(const char *name, int fd) {
    struct statx told;
    if (left == 0) return 0;
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &told) == 0 && (told.stx_mode & S_IFMT) == 0) return 0;
    return fails(name);
}

#define REAL(result, name, types) \
    static result (*real) types; \
    if (!real) real = (result (*) types) dlsym(RTLD_NEXT, #name)
#define CALL(result, bad, group, name, types, ...) \
    result name types { REAL(result, name, types); return fails(group) ? (bad) : real(__VA_ARGS__); }
#define ON_FD(result, name, types, ...) \
    result name types { REAL(result, name, types); return fails_on(#name, fd) ? -1 : real(__VA_ARGS__); }
#define OPEN(group, name, types, ...) \
    int name types { \
        REAL(int, name, (uintptr_t, uintptr_t, uintptr_t, uintptr_t)); \
        va_list rest; va_start(rest, flags); unsigned mode = va_arg(rest, unsigned); va_end(rest); \
        return fails(group) ? -1 : real(__VA_ARGS__); }

OPEN("open", open, (const char *path, int flags, ...), (uintptr_t)path, flags, mode, 0)
OPEN("open", open64, (const char *path, int flags, ...), (uintptr_t)path, flags, mode, 0)
OPEN("open", openat, (int at, const char *path, int flags, ...), at, (uintptr_t)path, flags, mode)
OPEN("open", openat64, (int at, const char *path, int flags, ...), at, (uintptr_t)path, flags, mode)
ON_FD(ssize_t, read, (int fd, void *to, size_t n), fd, to, n)
ON_FD(ssize_t, write, (int fd, const void *from, size_t n), fd, from, n)
CALL(int, -1, "stat", stat, (const char *path, struct stat *to), path, to)
CALL(int, -1, "stat", stat64, (const char *path, struct stat64 *to), path, to)
CALL(int, -1, "stat", lstat, (const char *path, struct stat *to), path, to)
CALL(int, -1, "stat", lstat64, (const char *path, struct stat64 *to), path, to)
CALL(int, -1, "stat", fstatat, (int at, const char *path, struct stat *to, int flags), at, path, to, flags)
CALL(int, -1, "stat", fstatat64, (int at, const char *path, struct stat64 *to, int flags), at, path, to, flags)
CALL(int, -1, "fstat", fstat, (int fd, struct stat *to), fd, to)
CALL(int, -1, "fstat", fstat64, (int fd, struct stat64 *to), fd, to)
CALL(off_t, -1, "lseek", lseek, (int fd, off_t to, int from), fd, to, from)
CALL(off64_t, -1, "lseek", lseek64, (int fd, off64_t to, int from), fd, to, from)
CALL(DIR *, NULL, "opendir", opendir, (const char *path), path)
CALL(int, -1, "mkdir", mkdir, (const char *path, mode_t mode), path, mode)
CALL(int, -1, "chmod", chmod, (const char *path, mode_t mode), path, mode)
CALL(int, -1, "chmod", fchmod, (int fd, mode_t mode), fd, mode)
CALL(int, -1, "rename", rename, (const char *from, const char *to), from, to)
CALL(int, -1, "unlink", unlink, (const char *path), path)
CALL(int, -1, "fsync", fsync, (int fd), fd)
CALL(int, -1, "flock", flock, (int fd, int operation), fd, operation)
CALL(int, -1, "ftruncate", ftruncate64, (int fd, off64_t to), fd, to)
CALL(int, -1, "access", access, (const char *path, int mode), path, mode)
CALL(ssize_t, -1, "readlink", readlink, (const char *path, char *to, size_t n), path, to, n)
CALL(char *, NULL, "getcwd", getcwd, (char *to, size_t n), to, n)
CALL(int, -1, "pipe", pipe2, (int fds[2], int flags), fds, flags)
CALL(int, -1, "affinity", sched_getaffinity, (pid_t pid, size_t n, void *to), pid, n, to)
CALL(int, -1, "affinity", sched_setaffinity, (pid_t pid, size_t n, const void *from), pid, n, from)
CALL(int, -1, "socket", socket, (int domain, int type, int protocol), domain, type, protocol)
CALL(int, -1, "hostname", gethostname, (char *to, size_t n), to, n)
CALL(pid_t, -1, "fork", fork, (void), )

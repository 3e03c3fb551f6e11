/* What a storage translator asks of the kernel. Whoever gives the GIL away may have to wait for it
   afterwards, so what a fop needs is one call wherever that can be. It stands behind bridge.c. */

#include <fnmatch.h>

#include <glusterfs/syscall.h> /* compat.h makes lgetxattr() one that follows links */

static void quick_show_times(struct iatt *iatt, const struct mdata_iatt *times)
{
    iatt->ia_atime = times->ia_atime;
    iatt->ia_atime_nsec = times->ia_atime_nsec;
    iatt->ia_mtime = times->ia_mtime;
    iatt->ia_mtime_nsec = times->ia_mtime_nsec;
    iatt->ia_ctime = times->ia_ctime;
    iatt->ia_ctime_nsec = times->ia_ctime_nsec;
}

/* As a brick shows it: with its gfid, the inode number that follows from that, without the link of
   .glusterfs, and with the times of trusted.glusterfs.mdata. Both may be NULL. */
static void glupy_show(struct iatt *iatt, const struct stat *stat, const unsigned char *gfid,
                       const struct mdata_iatt *times)
{
    memset(iatt, 0, sizeof *iatt);
    iatt_from_stat(iatt, (struct stat *)stat);
    if (gfid) {
        memcpy(iatt->ia_gfid, gfid, 16);
        iatt->ia_ino = gfid_to_ino(iatt->ia_gfid);
        iatt->ia_flags |= IATT_GFID | IATT_INO;
        if (iatt->ia_nlink && !S_ISDIR(stat->st_mode)) /* 0: open, without names */
            iatt->ia_nlink--;
    }
    if (times)
        quick_show_times(iatt, times);
}

static void set_later(int64_t *seconds, uint32_t *nanoseconds, int64_t s, uint32_t n)
{
    if ((s || n) && (s > *seconds || (s == *seconds && n > *nanoseconds))) {
        *seconds = s;
        *nanoseconds = n;
    }
}

/* Now, as file systems' own times: coarse, but since Linux 6.13 not before what somebody has seen of
   any file, whose clock user space cannot read (timekeeping.c: ktime_get_coarse_real_ts64_mg). So a
   file in memory is asked. The GIL is held. */
static struct timespec file_system_time(void)
{
    static int file = -1;
    struct timespec when;
    struct stat stat;
    if (file < 0)
        file = memfd_create("glupy-clock", MFD_CLOEXEC);
    if (file >= 0 && !futimens(file, NULL) && !fstat(file, &stat))
        return stat.st_mtim;
    clock_gettime(CLOCK_REALTIME_COARSE, &when);
    return when;
}

/* Have times become a fop's: the client's, or else now; none goes back. `flags` (MDATA_*) are those
   that it sets if the client does not say so. GlusterFS's own clients set times by themselves. */
static void quick_touch(struct mdata_iatt *times, pid_t pid, int client_flags, int64_t seconds,
                        long nanoseconds, int flags)
{
    const int all = MDATA_CTIME | MDATA_MTIME | MDATA_ATIME;
    struct timespec when = {.tv_sec = seconds, .tv_nsec = nanoseconds};
    if (pid < 0)
        return;
    if (!when.tv_sec)
        when = file_system_time();
    else if (client_flags & all)
        flags = client_flags & all;
    if (flags & MDATA_ATIME)
        set_later(&times->ia_atime, &times->ia_atime_nsec, when.tv_sec, when.tv_nsec);
    if (flags & MDATA_MTIME)
        set_later(&times->ia_mtime, &times->ia_mtime_nsec, when.tv_sec, when.tv_nsec);
    if (flags)
        set_later(&times->ia_ctime, &times->ia_ctime_nsec, when.tv_sec, when.tv_nsec);
}

/* Attributes of a file whose bytes are elsewhere: those of its stub, but its size, its blocks (of
   the open file fd, unless that is -1) and those of its times that are later. */
static int quick_show_over(struct iatt *iatt, const struct iatt *stub, uint64_t size,
                           uint64_t blocks, int fd, const struct mdata_iatt *times)
{
    const uint64_t most = (size + 511) / 512; /* as iatt_from_stat */
    struct stat stat;
    if (fd >= 0) {
        if (fstat(fd, &stat))
            return -1;
        blocks = stat.st_blocks;
    }
    *iatt = *stub;
    iatt->ia_size = size;
    iatt->ia_blocks = blocks < most ? blocks : most;
    set_later(&iatt->ia_atime, &iatt->ia_atime_nsec, times->ia_atime, times->ia_atime_nsec);
    set_later(&iatt->ia_mtime, &iatt->ia_mtime_nsec, times->ia_mtime, times->ia_mtime_nsec);
    set_later(&iatt->ia_ctime, &iatt->ia_ctime_nsec, times->ia_ctime, times->ia_ctime_nsec);
    return 0;
}

/* Of an open file the kernel has all that in memory. */
static int quick_fstat(int fd, struct iatt *iatt, const unsigned char *gfid,
                       const struct mdata_iatt *times)
{
    struct stat stat;
    if (fstat(fd, &stat))
        return -1;
    glupy_show(iatt, &stat, gfid, times);
    return 0;
}

static int glupy_fstatat(int dirfd, const char *path, int flags, struct iatt *iatt,
                         const unsigned char *gfid, const struct mdata_iatt *times)
{
    struct stat stat;
    if (fstatat(dirfd, path, &stat, flags))
        return -1;
    glupy_show(iatt, &stat, gfid, times);
    return 0;
}

/* The times in trusted.glusterfs.mdata, if it has that (posix_mdata_disk_t of posix-metadata-disk.h:
   packed, big-endian). */
static int glupy_stored_times(const char *path, struct mdata_iatt *times)
{
    struct __attribute__((packed)) {
        uint8_t version;
        uint64_t flags;
        uint64_t ctime, ctime_nsec, mtime, mtime_nsec, atime, atime_nsec;
    } disk;
    if (sys_lgetxattr(path, "trusted.glusterfs.mdata", &disk, sizeof disk) != sizeof disk)
        return 0;
    *times = (struct mdata_iatt){.ia_ctime = be64toh(disk.ctime),
                                 .ia_ctime_nsec = be64toh(disk.ctime_nsec),
                                 .ia_mtime = be64toh(disk.mtime),
                                 .ia_mtime_nsec = be64toh(disk.mtime_nsec),
                                 .ia_atime = be64toh(disk.atime),
                                 .ia_atime_nsec = be64toh(disk.atime_nsec)};
    return 1;
}

/* Attributes of whatever is at a path, with the gfid that its xattr says; that is 0, and the inode
   number is invalid, if there is none. */
static int glupy_look(const char *path, struct iatt *iatt)
{
    static const unsigned char none[16];
    struct stat stat;
    unsigned char gfid[16];
    ssize_t size = sys_lgetxattr(path, "trusted.gfid", gfid, sizeof gfid);
    if (size < 0 && errno != ENODATA && errno != ERANGE)
        return -1;
    if (fstatat(AT_FDCWD, path, &stat, AT_SYMLINK_NOFOLLOW))
        return -1;
    glupy_show(iatt, &stat, size == sizeof gfid ? gfid : none, NULL);
    if (size != sizeof gfid) {
        iatt->ia_ino = ~0ULL;
        iatt->ia_flags &= ~IATT_INO;
    }
    return 0;
}

/* The same together with the attributes of its directory. Returns 0, the errno for the path, or -1
   and the errno for the directory. */
static int glupy_look_in(const char *path, struct iatt *iatt, const char *folder,
                         struct iatt *parent, const unsigned char *gfid,
                         const struct mdata_iatt *times)
{
    int error = glupy_look(path, iatt) ? errno : 0;
    return glupy_fstatat(AT_FDCWD, folder, AT_SYMLINK_NOFOLLOW, parent, gfid, times) ? -1 : error;
}

/* The same of what was looked at before: the kernel has it in memory, so the GIL is kept. */
static int quick_fstatat(int dirfd, const char *path, int flags, struct iatt *iatt,
                         const unsigned char *gfid, const struct mdata_iatt *times)
{
    return glupy_fstatat(dirfd, path, flags, iatt, gfid, times);
}

static int quick_look(const char *path, struct iatt *iatt)
{
    return glupy_look(path, iatt);
}

static int quick_look_in(const char *path, struct iatt *iatt, const char *folder,
                         struct iatt *parent, const unsigned char *gfid,
                         const struct mdata_iatt *times)
{
    return glupy_look_in(path, iatt, folder, parent, gfid, times);
}

/* ---- making and removing names ---- */

/* Open a new file for its owner. The number, or -1 and errno. */
static int glupy_create(const char *path, int flags, mode_t mode, uid_t uid, gid_t gid)
{
    int error, fd = open(path, flags, mode);
    if (fd >= 0 && fchown(fd, uid, gid)) {
        error = errno;
        close(fd);
        if (flags & O_EXCL)
            unlink(path);
        errno = error;
        return -1;
    }
    return fd;
}

/* Whether both are the same file, symlinks not followed, or only the first; errno if either cannot
   be seen. */
static int glupy_same(const char *one, const char *other, int follow)
{
    struct stat first, second;
    if ((follow ? stat(one, &first) : lstat(one, &first)) || lstat(other, &second))
        return -1;
    return first.st_ino == second.st_ino && first.st_dev == second.st_dev;
}

/* The handle of the file that is open as fd, or at path alone (whose name may be another's by now);
   of a directory if target is given: where its symlink leads. Its folder is made if it is missing.
   ESTALE if the handle is another file's. */
static int glupy_link_handle(int fd, const char *path, const char *handle, const char *target)
{
    int tries, follow = fd < 0 ? 0 : AT_SYMLINK_FOLLOW;
    char opened[32];
    if (fd >= 0) {
        snprintf(opened, sizeof opened, "/proc/self/fd/%d", fd);
        path = opened;
    }
    for (tries = 0; tries < 2; tries++) {
        if (!(target ? symlink(target, handle) : linkat(AT_FDCWD, path, AT_FDCWD, handle, follow)))
            return 0;
        if (errno == EEXIST) {
            if (target || glupy_same(path, handle, fd >= 0) == 1)
                return 0;
            errno = ESTALE;
            return -1;
        }
        if (errno == ENOENT && !tries) {
            char folder[PATH_MAX], *slash;
            snprintf(folder, sizeof folder, "%s", handle);
            if ((slash = strrchr(folder, '/')))
                *slash = 0;
            if (mkdir(folder, 0700) && errno != EEXIST)
                return -1;
        } else {
            return -1;
        }
    }
    return -1;
}

static int set_xattr(int fd, const char *path, const char *key, const void *value, size_t size)
{
    return fd < 0 ? sys_lsetxattr(path, key, value, size, XATTR_CREATE)
                  : sys_fsetxattr(fd, key, value, size, XATTR_CREATE);
}

/* Make a new file, open as fd or at path alone, one of the brick's: its name's record (record_key
   may be NULL), its gfid, its handle. Then the attributes of it and of its folder.
   Returns 0, the errno for the record, without which it is one too; or -1 and errno. */
static int glupy_admit(int fd, const char *path, const unsigned char *gfid, const char *handle,
                       const char *target, const char *record_key, const char *record,
                       struct iatt *iatt, const char *folder, struct iatt *parent,
                       const unsigned char *parent_gfid, const struct mdata_iatt *parent_times)
{
    int error, unrecorded = 0;
    if (record_key && set_xattr(fd, path, record_key, record, strlen(record)))
        unrecorded = errno;
    if (set_xattr(fd, path, "trusted.gfid", gfid, 16) || glupy_link_handle(fd, path, handle, target))
        return -1;
    if ((fd < 0 ? glupy_fstatat(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, iatt, gfid, NULL)
                : quick_fstat(fd, iatt, gfid, NULL)) ||
        glupy_fstatat(AT_FDCWD, folder, AT_SYMLINK_NOFOLLOW, parent, parent_gfid, parent_times)) {
        error = errno;
        unlink(handle);
        errno = error;
        return -1;
    }
    return unrecorded;
}

/* Remove a name; with the last one (handle is given) the handle, which becomes the orphan if that
   is given: in this order, or a lookup between would make the handle anew. Then the attributes of
   the folder. */
static int glupy_remove(const char *path, const char *handle, const char *orphan,
                        const char *folder, struct iatt *parent, const unsigned char *parent_gfid,
                        const struct mdata_iatt *parent_times)
{
    if (unlink(path))
        return -1;
    if (handle && (orphan ? rename(handle, orphan) : unlink(handle)) && errno != ENOENT)
        return -1;
    return glupy_fstatat(AT_FDCWD, folder, AT_SYMLINK_NOFOLLOW, parent, parent_gfid, parent_times);
}

/* ---- directories: a call for a reply, not for an entry ---- */

struct kernel_entry { /* struct linux_dirent64 of getdents(2) */
    uint64_t ino;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* Type of an entry whose file system does not list it: the type bits of its mode, as DT_*. */
static int entry_type(int fd, const char *name)
{
    struct stat stat;
    return fstatat(fd, name, &stat, AT_SYMLINK_NOFOLLOW) ? DT_UNKNOWN : IFTODT(stat.st_mode);
}

/* List the entries of a directory from an offset on, as many as have room, without `hidden` (may be
   NULL). Their number, or -1 and errno; `end` says whether they are the last. */
static int glupy_list(int fd, off_t offset, size_t room, const char *hidden, int files_only,
                      gf_dirent_t *head, int *end)
{
    char buffer[32 * 1024] __attribute__((aligned(8)));
    int count = 0;
    *end = 0;
    lseek(fd, offset, SEEK_SET); /* an offset that never was one: as seekdir(3) */
    for (;;) {
        long done = syscall(SYS_getdents64, fd, buffer, sizeof buffer), at;
        if (done < 0 && errno != ENOENT) /* that: the directory was removed */
            return -1;
        if (done <= 0)
            break;
        const struct kernel_entry *from;
        for (at = 0; at < done; at += from->size) {
            from = (const void *)(buffer + at);
            if (hidden && !strcmp(from->name, hidden))
                continue;
            int type = from->type == DT_UNKNOWN ? entry_type(fd, from->name) : from->type;
            if (files_only && type == DT_DIR)
                continue;
            size_t length = strlen(from->name), size = sizeof(gf_dirent_t) + length + 1;
            if (size > room)
                return count;
            room -= size;
            gf_dirent_t *entry = gf_dirent_for_name(from->name);
            if (!entry) {
                errno = ENOMEM;
                return -1;
            }
            entry->d_ino = from->ino;
            entry->d_off = from->next;
            entry->d_type = type;
            entry->d_len = length;
            list_add_tail(&entry->list, &head->list);
            count++;
        }
    }
    *end = 1;
    return count;
}

/* fnmatch(3): patterns of xattrs. */
static int quick_matches(const char *pattern, const char *name)
{
    return !fnmatch(pattern, name, 0);
}

static int is_dots(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* Give the entries their attributes and their inodes: those that GlusterFS has, or (not to the dots)
   new ones. What has gone meanwhile stays without. `path` is the folder's, with a slash. */
static void glupy_fill_entries(gf_dirent_t *head, inode_t *folder, const char *path, int with_times)
{
    gf_dirent_t *entry;
    size_t length = strlen(path);
    char full[PATH_MAX];
    if (length >= sizeof full)
        return;
    memcpy(full, path, length);
    list_for_each_entry(entry, &head->list, list)
    {
        struct mdata_iatt times;
        struct iatt iatt;
        inode_t *inode = NULL;
        int dots = is_dots(entry->d_name);
        if (snprintf(full + length, sizeof full - length, "%s", entry->d_name) >=
            (int)(sizeof full - length))
            continue;
        if (!dots)
            inode = inode_grep(folder->table, folder, entry->d_name);
        if (inode ? glupy_fstatat(AT_FDCWD, full, AT_SYMLINK_NOFOLLOW, &iatt, inode->gfid, NULL)
                  : glupy_look(full, &iatt)) {
            if (inode)
                inode_unref(inode);
            continue;
        }
        if (with_times && !gf_uuid_is_null(iatt.ia_gfid) && glupy_stored_times(full, &times))
            quick_show_times(&iatt, &times);
        if (!inode && !gf_uuid_is_null(iatt.ia_gfid) &&
            !(inode = inode_find(folder->table, iatt.ia_gfid)) && !dots)
            inode = inode_new(folder->table);
        entry->d_stat = iatt;
        entry->d_ino = iatt.ia_ino;
        entry->inode = inode;
    }
}

/* ---- bytes ---- */

/* What a fop does to an open file together with its attributes before and after. */
static int glupy_fallocate_between(int fd, int mode, off_t offset, off_t length,
                                   struct iatt *before, struct iatt *after,
                                   const unsigned char *gfid, const struct mdata_iatt *times)
{
    if (quick_fstat(fd, before, gfid, times) || fallocate(fd, mode, offset, length))
        return -1;
    return quick_fstat(fd, after, gfid, times);
}

static ssize_t glupy_pwritev_between(int fd, const struct iovec *vector, int count, off_t offset,
                                     struct iatt *before, struct iatt *after,
                                     const unsigned char *gfid, const struct mdata_iatt *times)
{
    ssize_t done;
    if (quick_fstat(fd, before, gfid, times) || (done = pwritev(fd, vector, count, offset)) < 0)
        return -1;
    return quick_fstat(fd, after, gfid, times) ? -1 : done;
}

/* A buffer of GlusterFS's own with all that a fop needs to carry it: one allocation, one call. */
struct glupy_buffer {
    struct iobuf *iobuf;
    struct iobref *iobref;
    struct iovec *vector;
    struct iovec vector_store;
};

static void quick_buffer_free(void *given)
{
    struct glupy_buffer *buffer = given;
    if (buffer->iobref)
        iobref_unref(buffer->iobref);
    if (buffer->iobuf)
        iobuf_unref(buffer->iobuf);
    free(buffer);
}

static struct glupy_buffer *glupy_buffer_new(size_t size, size_t alignment)
{
    struct glupy_buffer *buffer;
    if (!THIS->ctx || !(buffer = malloc(sizeof *buffer)))
        return NULL;
    /* THIS is set wherever handlers run, and all translators of a process share one pool. */
    buffer->iobuf = alignment ? iobuf_get_page_aligned(THIS->ctx->iobuf_pool, size ? size : 1,
                                                       alignment)
                              : iobuf_get2(THIS->ctx->iobuf_pool, size ? size : 1);
    buffer->iobref = iobref_new();
    if (!buffer->iobuf || !buffer->iobref || iobref_add(buffer->iobref, buffer->iobuf)) {
        quick_buffer_free(buffer);
        return NULL;
    }
    buffer->vector = &buffer->vector_store;
    buffer->vector->iov_base = buffer->iobuf->ptr;
    buffer->vector->iov_len = size;
    return buffer;
}

static ssize_t glupy_pread(int fd, struct glupy_buffer *buffer, size_t size, off_t offset)
{
    ssize_t done = pread(fd, buffer->vector->iov_base, size, offset);
    if (done >= 0)
        buffer->vector->iov_len = done;
    return done;
}

/* NULL and errno; the attributes are those after the read. */
static struct glupy_buffer *glupy_pread_before(int fd, size_t size, size_t alignment, off_t offset,
                                               struct iatt *after, const unsigned char *gfid,
                                               const struct mdata_iatt *times)
{
    struct glupy_buffer *buffer = glupy_buffer_new(size, alignment);
    int error;
    if (!buffer) {
        errno = ENOMEM;
    } else if (glupy_pread(fd, buffer, size, offset) < 0 || quick_fstat(fd, after, gfid, times)) {
        error = errno;
        quick_buffer_free(buffer);
        errno = error;
        buffer = NULL;
    }
    return buffer;
}

/* The same if the bytes are in memory already: NULL and EAGAIN if not, or not all of them. */
static struct glupy_buffer *quick_cached_pread_before(int fd, size_t size, off_t offset,
                                                      struct iatt *after,
                                                      const unsigned char *gfid,
                                                      const struct mdata_iatt *times)
{
    struct glupy_buffer *buffer = glupy_buffer_new(size, 0);
    ssize_t done = -1;
    if (buffer) {
        done = preadv2(fd, buffer->vector, 1, offset, RWF_NOWAIT);
        if (done >= 0 && !quick_fstat(fd, after, gfid, times) &&
            ((size_t)done == size || (uint64_t)offset + done >= after->ia_size)) {
            buffer->vector->iov_len = done;
            return buffer;
        }
        quick_buffer_free(buffer);
    }
    errno = EAGAIN;
    return NULL;
}

/* All of that many bytes, if they are in memory already: NULL and EAGAIN if not. */
static struct glupy_buffer *quick_cached_read(int fd, size_t size, off_t offset)
{
    struct glupy_buffer *buffer = glupy_buffer_new(size, 0);
    if (buffer) {
        if (preadv2(fd, buffer->vector, 1, offset, RWF_NOWAIT) == (ssize_t)size)
            return buffer;
        quick_buffer_free(buffer);
    }
    errno = EAGAIN;
    return NULL;
}

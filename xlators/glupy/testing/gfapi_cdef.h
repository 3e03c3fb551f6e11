/* What glupy.testing calls of libgfapi, for cffi's API mode: the C compiler checks every line
 * against the installed glfs.h and glfs-handles.h, and fills in what is written as "...". */

typedef int... off_t;
typedef int... off64_t;
typedef int... time_t;
typedef int... mode_t;
typedef int... dev_t;
typedef int... ino_t;
typedef int... uid_t;
typedef int... gid_t;
typedef int... nlink_t;
typedef int... blkcnt_t;
typedef int... blksize_t;
typedef int... fsblkcnt_t;
typedef int... fsfilcnt_t;
typedef int... pid_t;

typedef ... glfs_t;
typedef ... glfs_fd_t;
typedef ... glfs_object_t;
typedef ... glfs_xreaddirp_stat_t;
typedef ... glfs_upcall_t;
typedef ... glfs_upcall_inode_t;
typedef ... glfs_upcall_lease_t;
typedef ... *acl_t;

struct timespec {
    time_t tv_sec;
    long tv_nsec;
    ...;
};

struct iovec {
    void *iov_base;
    size_t iov_len;
    ...;
};

struct stat {
    dev_t st_dev;
    ino_t st_ino;
    mode_t st_mode;
    nlink_t st_nlink;
    uid_t st_uid;
    gid_t st_gid;
    dev_t st_rdev;
    off_t st_size;
    blksize_t st_blksize;
    blkcnt_t st_blocks;
    struct timespec st_atim;
    struct timespec st_mtim;
    struct timespec st_ctim;
    ...;
};

struct statvfs {
    unsigned long f_bsize;
    unsigned long f_frsize;
    fsblkcnt_t f_blocks;
    fsblkcnt_t f_bfree;
    fsblkcnt_t f_bavail;
    fsfilcnt_t f_files;
    fsfilcnt_t f_ffree;
    fsfilcnt_t f_favail;
    unsigned long f_fsid;
    unsigned long f_flag;
    unsigned long f_namemax;
    ...;
};

struct dirent {
    ino_t d_ino;
    off_t d_off;
    unsigned char d_type;
    char d_name[...];
    ...;
};

struct flock {
    short l_type;
    short l_whence;
    off_t l_start;
    off_t l_len;
    pid_t l_pid;
    ...;
};

/* What setattr is to set: in struct glfs_stat, and beside struct stat */
#define GLFS_STAT_MODE ...
#define GLFS_STAT_UID ...
#define GLFS_STAT_GID ...
#define GLFS_STAT_ATIME ...
#define GLFS_STAT_MTIME ...
#define GLFS_STAT_BASIC_STATS ...
#define GFAPI_SET_ATTR_MODE ...
#define GFAPI_SET_ATTR_UID ...
#define GFAPI_SET_ATTR_GID ...
#define GFAPI_SET_ATTR_ATIME ...
#define GFAPI_SET_ATTR_MTIME ...

struct glfs_stat {
    uint64_t glfs_st_mask;
    struct timespec glfs_st_atime;
    struct timespec glfs_st_ctime;
    struct timespec glfs_st_mtime;
    ino_t glfs_st_ino;
    off_t glfs_st_size;
    blkcnt_t glfs_st_blocks;
    uint32_t glfs_st_rdev_major;
    uint32_t glfs_st_rdev_minor;
    uint32_t glfs_st_dev_major;
    uint32_t glfs_st_dev_minor;
    blksize_t glfs_st_blksize;
    nlink_t glfs_st_nlink;
    uid_t glfs_st_uid;
    gid_t glfs_st_gid;
    mode_t glfs_st_mode;
    ...;
};

/* The client */
glfs_t *glfs_new(const char *volname);
int glfs_set_volfile(glfs_t *fs, const char *volfile);
int glfs_set_volfile_server(glfs_t *fs, const char *transport, const char *host, int port);
int glfs_set_logging(glfs_t *fs, const char *logfile, int loglevel);
int glfs_init(glfs_t *fs);
int glfs_fini(glfs_t *fs);
ssize_t glfs_get_volfile(glfs_t *fs, void *buf, size_t len);

/* Who asks, per thread */
int glfs_setfsuid(uid_t fsuid);
int glfs_setfsgid(gid_t fsgid);
int glfs_setfsgroups(size_t size, const gid_t *list);

typedef char glfs_leaseid_t[...];
int glfs_setfsleaseid(glfs_leaseid_t leaseid);

/* Open files */
glfs_fd_t *glfs_open(glfs_t *fs, const char *path, int flags);
glfs_fd_t *glfs_creat(glfs_t *fs, const char *path, int flags, mode_t mode);
int glfs_close(glfs_fd_t *fd);

ssize_t glfs_pread(glfs_fd_t *fd, void *buf, size_t count, off_t offset, int flags,
                   struct glfs_stat *poststat);
ssize_t glfs_pwrite(glfs_fd_t *fd, const void *buf, size_t count, off_t offset, int flags,
                    struct glfs_stat *prestat, struct glfs_stat *poststat);
ssize_t glfs_preadv(glfs_fd_t *fd, const struct iovec *iov, int iovcnt, off_t offset, int flags);
ssize_t glfs_pwritev(glfs_fd_t *fd, const struct iovec *iov, int iovcnt, off_t offset, int flags);
ssize_t glfs_copy_file_range(glfs_fd_t *glfd_in, off64_t *off_in, glfs_fd_t *glfd_out,
                             off64_t *off_out, size_t len, unsigned int flags,
                             struct glfs_stat *statbuf, struct glfs_stat *prestat,
                             struct glfs_stat *poststat);
off_t glfs_lseek(glfs_fd_t *fd, off_t offset, int whence);
int glfs_discard(glfs_fd_t *fd, off_t offset, size_t len);
int glfs_fallocate(glfs_fd_t *fd, int keep_size, off_t offset, size_t len);
int glfs_zerofill(glfs_fd_t *fd, off_t offset, off_t len);
int glfs_ftruncate(glfs_fd_t *fd, off_t length, struct glfs_stat *prestat,
                   struct glfs_stat *poststat);
int glfs_fsync(glfs_fd_t *fd, struct glfs_stat *prestat, struct glfs_stat *poststat);
int glfs_fdatasync(glfs_fd_t *fd, struct glfs_stat *prestat, struct glfs_stat *poststat);
int glfs_fstat(glfs_fd_t *fd, struct stat *buf);
int glfs_fchmod(glfs_fd_t *fd, mode_t mode);
int glfs_fchown(glfs_fd_t *fd, uid_t uid, gid_t gid);
int glfs_fsetattr(glfs_fd_t *fd, struct glfs_stat *stat);
int glfs_futimens(glfs_fd_t *fd, const struct timespec times[2]);
ssize_t glfs_fgetxattr(glfs_fd_t *fd, const char *name, void *value, size_t size);
ssize_t glfs_flistxattr(glfs_fd_t *fd, void *value, size_t size);
int glfs_fsetxattr(glfs_fd_t *fd, const char *name, const void *value, size_t size, int flags);
int glfs_fremovexattr(glfs_fd_t *fd, const char *name);
#define GLFS_LK_ADVISORY ...
#define GLFS_LK_MANDATORY ...
int glfs_file_lock(glfs_fd_t *fd, int cmd, struct flock *flock, int lk_mode);
int glfs_fd_set_lkowner(glfs_fd_t *glfd, void *data, int len);

/* Leases: fn is for a recall, but nothing in libgfapi calls it. */
typedef int... glfs_lease_cmds_t;
typedef int... glfs_lease_types_t;
#define GLFS_GET_LEASE ...
#define GLFS_SET_LEASE ...
#define GLFS_UNLK_LEASE ...
struct glfs_lease {
    glfs_lease_cmds_t cmd;
    glfs_lease_types_t lease_type;
    glfs_leaseid_t lease_id;
    ...;
};
int glfs_lease(glfs_fd_t *fd, struct glfs_lease *lease, void *fn, void *data);
int glfs_h_lease(glfs_t *fs, glfs_object_t *object, struct glfs_lease *lease);

/* Open files, answered later: glfs_io_cbk runs on a thread of libgfapi's. */
typedef void (*glfs_io_cbk)(glfs_fd_t *fd, ssize_t ret, struct glfs_stat *prestat,
                            struct glfs_stat *poststat, void *data);
extern "Python" void glupy_gfapi_answered(glfs_fd_t *fd, ssize_t ret, struct glfs_stat *prestat,
                                          struct glfs_stat *poststat, void *data);
int glfs_pread_async(glfs_fd_t *fd, void *buf, size_t count, off_t offset, int flags,
                     glfs_io_cbk fn, void *data);
int glfs_pwrite_async(glfs_fd_t *fd, const void *buf, int count, off_t offset, int flags,
                      glfs_io_cbk fn, void *data);
int glfs_preadv_async(glfs_fd_t *fd, const struct iovec *iov, int count, off_t offset, int flags,
                      glfs_io_cbk fn, void *data);
int glfs_pwritev_async(glfs_fd_t *fd, const struct iovec *iov, int count, off_t offset, int flags,
                       glfs_io_cbk fn, void *data);
int glfs_discard_async(glfs_fd_t *fd, off_t offset, size_t len, glfs_io_cbk fn, void *data);
int glfs_zerofill_async(glfs_fd_t *fd, off_t offset, off_t len, glfs_io_cbk fn, void *data);
int glfs_ftruncate_async(glfs_fd_t *fd, off_t length, glfs_io_cbk fn, void *data);
int glfs_fsync_async(glfs_fd_t *fd, glfs_io_cbk fn, void *data);
int glfs_fdatasync_async(glfs_fd_t *fd, glfs_io_cbk fn, void *data);

/* Open directories */
glfs_fd_t *glfs_opendir(glfs_t *fs, const char *path);
int glfs_closedir(glfs_fd_t *fd);
int glfs_readdirplus_r(glfs_fd_t *fd, struct stat *stat, struct dirent *dirent,
                       struct dirent **result);
#define GFAPI_XREADDIRP_STAT ...
#define GFAPI_XREADDIRP_HANDLE ...
int glfs_xreaddirplus_r(glfs_fd_t *fd, uint32_t flags, glfs_xreaddirp_stat_t **xstat,
                        struct dirent *dirent, struct dirent **result);
struct stat *glfs_xreaddirplus_get_stat(glfs_xreaddirp_stat_t *xstat);
glfs_object_t *glfs_xreaddirplus_get_object(glfs_xreaddirp_stat_t *xstat);
long glfs_telldir(glfs_fd_t *fd);
void glfs_seekdir(glfs_fd_t *fd, long offset);
int glfs_fchdir(glfs_fd_t *fd);

/* Paths */
int glfs_chdir(glfs_t *fs, const char *path);
char *glfs_realpath(glfs_t *fs, const char *path, char *resolved_path);
int glfs_stat(glfs_t *fs, const char *path, struct stat *buf);
int glfs_lstat(glfs_t *fs, const char *path, struct stat *buf);
int glfs_statvfs(glfs_t *fs, const char *path, struct statvfs *buf);
int glfs_access(glfs_t *fs, const char *path, int mode);
int glfs_truncate(glfs_t *fs, const char *path, off_t length);
int glfs_chmod(glfs_t *fs, const char *path, mode_t mode);
int glfs_chown(glfs_t *fs, const char *path, uid_t uid, gid_t gid);
int glfs_lchown(glfs_t *fs, const char *path, uid_t uid, gid_t gid);
int glfs_setattr(glfs_t *fs, const char *path, struct glfs_stat *stat, int follow);
int glfs_utimens(glfs_t *fs, const char *path, const struct timespec times[2]);
int glfs_lutimens(glfs_t *fs, const char *path, const struct timespec times[2]);
int glfs_mknod(glfs_t *fs, const char *path, mode_t mode, dev_t dev);
int glfs_mkdir(glfs_t *fs, const char *path, mode_t mode);
int glfs_rmdir(glfs_t *fs, const char *path);
int glfs_unlink(glfs_t *fs, const char *path);
int glfs_rename(glfs_t *fs, const char *oldpath, const char *newpath);
int glfs_link(glfs_t *fs, const char *oldpath, const char *newpath);
int glfs_symlink(glfs_t *fs, const char *oldpath, const char *newpath);
int glfs_readlink(glfs_t *fs, const char *path, char *buf, size_t bufsiz);
ssize_t glfs_getxattr(glfs_t *fs, const char *path, const char *name, void *value, size_t size);
ssize_t glfs_lgetxattr(glfs_t *fs, const char *path, const char *name, void *value, size_t size);
ssize_t glfs_listxattr(glfs_t *fs, const char *path, void *value, size_t size);
ssize_t glfs_llistxattr(glfs_t *fs, const char *path, void *value, size_t size);
int glfs_setxattr(glfs_t *fs, const char *path, const char *name, const void *value, size_t size,
                  int flags);
int glfs_lsetxattr(glfs_t *fs, const char *path, const char *name, const void *value, size_t size,
                   int flags);
int glfs_removexattr(glfs_t *fs, const char *path, const char *name);
int glfs_lremovexattr(glfs_t *fs, const char *path, const char *name);

/* Files by their gfid */
glfs_object_t *glfs_h_lookupat(glfs_t *fs, glfs_object_t *parent, const char *path,
                               struct stat *stat, int follow);
glfs_object_t *glfs_h_create_from_handle(glfs_t *fs, unsigned char *handle, int len,
                                         struct stat *stat);
ssize_t glfs_h_extract_handle(glfs_object_t *object, unsigned char *handle, int len);
glfs_object_t *glfs_object_copy(glfs_object_t *object);
int glfs_h_close(glfs_object_t *object);
int glfs_h_stat(glfs_t *fs, glfs_object_t *object, struct stat *stat);
int glfs_h_getattrs(glfs_t *fs, glfs_object_t *object, struct stat *stat);
int glfs_h_statfs(glfs_t *fs, glfs_object_t *object, struct statvfs *stat);
int glfs_h_setattrs(glfs_t *fs, glfs_object_t *object, struct stat *stat, int valid);
int glfs_h_access(glfs_t *fs, glfs_object_t *object, int mask);
ssize_t glfs_h_anonymous_read(glfs_t *fs, glfs_object_t *object, const void *buf, size_t count,
                              off_t offset);
size_t glfs_h_anonymous_write(glfs_t *fs, glfs_object_t *object, const void *buf, size_t count,
                              off_t offset);
int glfs_h_truncate(glfs_t *fs, glfs_object_t *object, off_t offset);
glfs_fd_t *glfs_h_open(glfs_t *fs, glfs_object_t *object, int flags);
glfs_fd_t *glfs_h_opendir(glfs_t *fs, glfs_object_t *object);
int glfs_h_readlink(glfs_t *fs, glfs_object_t *object, char *buf, size_t bufsiz);
int glfs_h_getxattrs(glfs_t *fs, glfs_object_t *object, const char *name, void *value,
                     size_t size);
int glfs_h_setxattrs(glfs_t *fs, glfs_object_t *object, const char *name, const void *value,
                     size_t size, int flags);
int glfs_h_removexattrs(glfs_t *fs, glfs_object_t *object, const char *name);
glfs_object_t *glfs_h_creat(glfs_t *fs, glfs_object_t *parent, const char *path, int flags,
                            mode_t mode, struct stat *sb);
glfs_object_t *glfs_h_creat_open(glfs_t *fs, glfs_object_t *parent, const char *path, int flags,
                                 mode_t mode, struct stat *stat, glfs_fd_t **fd);
glfs_object_t *glfs_h_mkdir(glfs_t *fs, glfs_object_t *parent, const char *path, mode_t flags,
                            struct stat *sb);
glfs_object_t *glfs_h_mknod(glfs_t *fs, glfs_object_t *parent, const char *path, mode_t mode,
                            dev_t dev, struct stat *sb);
glfs_object_t *glfs_h_symlink(glfs_t *fs, glfs_object_t *parent, const char *name,
                              const char *data, struct stat *stat);
int glfs_h_link(glfs_t *fs, glfs_object_t *linktgt, glfs_object_t *parent, const char *name);
int glfs_h_unlink(glfs_t *fs, glfs_object_t *parent, const char *path);
int glfs_h_rename(glfs_t *fs, glfs_object_t *olddir, const char *oldname, glfs_object_t *newdir,
                  const char *newname);

/* ACLs, which are libacl's */
#define ACL_TYPE_ACCESS ...
#define ACL_TYPE_DEFAULT ...
#define TEXT_ABBREVIATE ...
#define TEXT_NUMERIC_IDS ...
acl_t acl_from_text(const char *text);
char *acl_to_any_text(acl_t acl, const char *prefix, char separator, int options);
int acl_free(void *object);
acl_t glfs_h_acl_get(glfs_t *fs, glfs_object_t *object, int type);
int glfs_h_acl_set(glfs_t *fs, glfs_object_t *object, int type, acl_t acl);

/* What bricks tell a client: glupy_gfapi_told runs on a thread of libgfapi's. */
typedef void (*glfs_upcall_cbk)(glfs_upcall_t *upcall, void *data);
extern "Python" void glupy_gfapi_told(glfs_upcall_t *upcall, void *data);
#define GLFS_EVENT_ANY ...
#define GLFS_UPCALL_INODE_INVALIDATE ...
#define GLFS_UPCALL_RECALL_LEASE ...
#define GFAPI_INODE_UPDATE_FLAGS ...
int glfs_upcall_register(glfs_t *fs, uint32_t events, glfs_upcall_cbk told, void *data);
int glfs_upcall_unregister(glfs_t *fs, uint32_t events);
int glfs_upcall_get_reason(glfs_upcall_t *upcall);
void *glfs_upcall_get_event(glfs_upcall_t *upcall);
glfs_object_t *glfs_upcall_inode_get_object(glfs_upcall_inode_t *event);
uint64_t glfs_upcall_inode_get_flags(glfs_upcall_inode_t *event);
struct stat *glfs_upcall_inode_get_stat(glfs_upcall_inode_t *event);
glfs_object_t *glfs_upcall_lease_get_object(glfs_upcall_lease_t *event);
void glfs_free(void *pointer);

/* Exported, but in no installed header: build_gfapi.py declares them for C. */
int glfs_ipc(glfs_t *fs, int opcode, void *xdata, void **answer);
int glfs_setfspid(glfs_t *fs, pid_t pid);

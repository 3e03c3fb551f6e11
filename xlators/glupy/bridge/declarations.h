/* What Python sees of bridge.h, bridge.c, storage.c, libglusterfs and the kernel. The compiler fills
   in sizes, offsets and values ("..."), and complains where a declaration is not the header's. */

typedef int... off_t;
typedef int... off64_t;
typedef int... mode_t;
typedef int... dev_t;
typedef int... uid_t;
typedef int... gid_t;
typedef int... pid_t;
typedef int... time_t;
typedef int... gf_boolean_t;
typedef int... entrylk_cmd;
typedef int... entrylk_type;
typedef int... gf_xattrop_flags_t;
typedef int... gf_seek_what_t;
typedef int... ia_type_t;

typedef struct _xlator xlator_t;
typedef struct _call_frame call_frame_t;
typedef struct _call_stack call_stack_t;
typedef struct _inode inode_t;
typedef struct _fd fd_t;
typedef struct _dict dict_t;
typedef struct _data data_t;
typedef struct _loc loc_t;
typedef struct _gf_dirent gf_dirent_t;
typedef struct _client client_t;
typedef struct _glusterfs_ctx glusterfs_ctx_t;
typedef struct _inode_table inode_table_t;
typedef struct { ...; } gf_atomic_t;
typedef struct { int len; char data[...]; ...; } gf_lkowner_t;
typedef struct lock_migration_info lock_migration_info_t;

struct timespec { time_t tv_sec; long tv_nsec; ...; };
struct iovec { void *iov_base; size_t iov_len; };

typedef struct xlator_list { xlator_t *xlator; struct xlator_list *next; } xlator_list_t;
struct _xlator { char *name; char *type; xlator_list_t *parents; xlator_list_t *children;
                 dict_t *options; void *private; inode_table_t *itable; glusterfs_ctx_t *ctx; ...; };
struct _call_stack { uint64_t unique; uid_t uid; uint32_t gid; pid_t pid; uint16_t ngrps;
                     uint32_t *groups; gf_lkowner_t lk_owner; client_t *client; int32_t op;
                     uint32_t flags; struct timespec ctime; ...; };
struct _call_frame { call_stack_t *root; call_frame_t *parent; void *local; xlator_t *this; ...; };
struct _client { int32_t opversion; ...; };
const char *glupy_client_uid(const client_t *client);

struct _loc { const char *path; const char *name; inode_t *inode; inode_t *parent;
              unsigned char gfid[16]; unsigned char pargfid[16]; };
struct _inode { inode_table_t *table; unsigned char gfid[16]; uint32_t fd_count;
                uint32_t active_fd_count; uint32_t ref; ia_type_t ia_type; ...; };
struct _inode_table { inode_t *root; char *name; uint32_t active_size; uint32_t lru_size; ...; };
struct _fd { uint64_t pid; int32_t flags; inode_t *inode; gf_boolean_t anonymous; ...; };

struct iatt { uint64_t ia_flags; uint64_t ia_ino; uint64_t ia_dev; uint64_t ia_rdev;
              uint64_t ia_size; uint32_t ia_nlink; uint32_t ia_uid; uint32_t ia_gid;
              uint32_t ia_blksize; uint64_t ia_blocks; int64_t ia_atime; int64_t ia_mtime;
              int64_t ia_ctime; int64_t ia_btime; uint32_t ia_atime_nsec; uint32_t ia_mtime_nsec;
              uint32_t ia_ctime_nsec; uint32_t ia_btime_nsec; uint64_t ia_attributes;
              uint64_t ia_attributes_mask; unsigned char ia_gfid[16]; ia_type_t ia_type; ...; };
struct mdata_iatt { int64_t ia_atime; int64_t ia_mtime; int64_t ia_ctime; uint32_t ia_atime_nsec;
                    uint32_t ia_mtime_nsec; uint32_t ia_ctime_nsec; ...; };
struct statvfs { unsigned long f_bsize; unsigned long f_frsize; uint64_t f_blocks;
                 uint64_t f_bfree; uint64_t f_bavail; uint64_t f_files; uint64_t f_ffree;
                 uint64_t f_favail; unsigned long f_fsid; unsigned long f_flag;
                 unsigned long f_namemax; ...; };
struct gf_flock { short l_type; short l_whence; off_t l_start; off_t l_len; pid_t l_pid;
                  gf_lkowner_t l_owner; ...; };
typedef int... gf_lease_cmds_t;
typedef int... gf_lease_types_t;
struct gf_lease { gf_lease_cmds_t cmd; gf_lease_types_t lease_type; char lease_id[16]; unsigned int lease_flags; ...; };
struct lock_migration_info { struct gf_flock flock; char *client_uid; uint32_t lk_flags; ...; };
struct _gf_dirent { gf_dirent_t *next; uint64_t d_ino; uint64_t d_off; uint32_t d_len;
                    uint32_t d_type; struct iatt d_stat; dict_t *dict; inode_t *inode;
                    char d_name[]; ...; };

typedef struct _data_pair { struct _data_pair *next; data_t *value; ...; } data_pair_t;
const char *quick_pair_key(const data_pair_t *pair);
struct _dict { int32_t count; data_pair_t *members_list; ...; };
struct _data { char *data; int data_type; uint32_t len; ...; };

struct iobuf { void *ptr; size_t page_size; ...; };
struct iobref { int used; ...; };

typedef struct volume_options { char *key[...]; int type; double min; double max; char *value[...];
                                char *default_value; char *description; int validate; ...; }
    volume_option_t;

/* ---- bridge.h, bridge.c ---- */

struct glupy_caller { uint64_t unique; uid_t uid; uint32_t gid; pid_t pid; uint16_t ngrps;
                      uint32_t *groups; gf_lkowner_t *lk_owner; client_t *client; int32_t op;
                      uint32_t flags; struct timespec ctime; ...; };
struct glupy_held { struct glupy_caller root; ...; };
struct glupy_reply { uintptr_t waiter; int32_t op_ret; int32_t op_errno; ...; };
enum glupy_event { ENTERED, PASSED, UNWOUND, ... };
enum glupy_verdict { VERDICT_TAKEN, VERDICT_PASS, VERDICT_ANSWERED, ... };

extern "Python" void python_resume(uintptr_t waiter, struct glupy_reply *reply);
extern "Python" int32_t python_init(xlator_t *this);
extern "Python" void python_fini(void *self);
extern "Python" int32_t python_reconfigure(void *self, dict_t *options);
extern "Python" int32_t python_notify(void *self, int32_t event, void *data);
extern "Python" void python_forget(void *self, inode_t *inode);
extern "Python" void python_release(void *self, fd_t *fd, int directory);
extern "Python" void python_merge(void *self, inode_t *inode, inode_t *linked);
extern "Python" int32_t python_invalidate(void *self, inode_t *inode);
extern "Python" int32_t python_client(void *self, client_t *client, int destroyed);
extern "Python" void python_fdclose(void *self, fd_t *fd, int directory);
extern "Python" int32_t python_dump(void *self);

void glupy_attach(void);
void glupy_log(const char *domain, int level, const char *file, int line, const char *function,
               const char *message);
void glupy_set_self(xlator_t *this, void *self);
void glupy_make_leaf(xlator_t *this);
void glupy_set_fop(xlator_t *this, int number);
void glupy_set_passed(xlator_t *this, int number);
void *glupy_get_fop(xlator_t *this, int number);
void *glupy_get_default_fop(int number);
int glupy_set_callback(xlator_t *this, const char *name);
void glupy_set_dump(xlator_t *this);
uint64_t glupy_counted(xlator_t *this, int event);
int glupy_default_notify(xlator_t *this, int32_t event, void *data);
const char *glupy_built_for(void);
int glupy_brick_count(xlator_t *this);
int glupy_brick_goes(xlator_t *this);
void glupy_detach_brick(xlator_t *this);
void glupy_event(xlator_t *this, int event, const char *text);
int glupy_declare_options(xlator_t *this, volume_option_t *options);
void glupy_dump_section(const char *name);
void glupy_dump_line(const char *key, const char *value);
void glupy_drop_held(void *held);
void glupy_drop_reply(void *reply);
struct glupy_reply *quick_unreplied(void);
int quick_wait(struct glupy_reply *reply);
void glupy_fail(xlator_t *this, call_frame_t *frame, int fop, int32_t op_errno);
call_frame_t *glupy_own_frame(xlator_t *this);
void glupy_end_own_frame(xlator_t *this, call_frame_t *frame);
void quick_set_this(xlator_t *this);
uint32_t quick_iatt_mode(const struct iatt *iatt);
void quick_iatt_set_mode(struct iatt *iatt, uint32_t mode);
void quick_mark_inode(inode_t *inode, xlator_t *this);
void quick_set_passes(inode_t *inode, xlator_t *this, int passes);
int quick_passes(inode_t *inode, xlator_t *this);
void quick_mark_fd(fd_t *fd, xlator_t *this);
dict_t *quick_dict_new(void);
data_t *quick_data(dict_t *dict, const char *key);
void quick_data_unref(data_t *data);
void quick_dict_unref(void *dict);
int quick_dict_has(dict_t *dict, const char *key);
int quick_dict_set_bytes(dict_t *dict, const char *key, const void *value, size_t size);
int quick_dict_set_string(dict_t *dict, const char *key, const char *value);
int quick_dict_set_number(dict_t *dict, const char *key, int64_t value, int bits);
int quick_dict_set_iatt(dict_t *dict, const char *key, const struct iatt *value);
int quick_dict_set_mdata(dict_t *dict, const char *key, const struct mdata_iatt *value);
int quick_dict_set_uuid(dict_t *dict, const char *key, const unsigned char *value);
gf_dirent_t *glupy_dirents_new(void);
void glupy_dirents_free(gf_dirent_t *head);
gf_dirent_t *glupy_dirent_add(gf_dirent_t *head, const char *name);
lock_migration_info_t *glupy_locks_new(void);
void glupy_locks_free(lock_migration_info_t *head);
lock_migration_info_t *glupy_lock_add(lock_migration_info_t *head, const char *client_uid);
lock_migration_info_t *glupy_lock_next(lock_migration_info_t *head, lock_migration_info_t *lock);
loc_t *glupy_loc_keep(const loc_t *from);
void glupy_loc_free(loc_t *loc);
void glupy_free(void *memory);
int quick_fstat(int fd, struct iatt *iatt, const unsigned char *gfid,
                const struct mdata_iatt *times);
int glupy_fstatat(int dirfd, const char *path, int flags, struct iatt *iatt,
                  const unsigned char *gfid, const struct mdata_iatt *times);
void quick_show_times(struct iatt *iatt, const struct mdata_iatt *times);
void quick_touch(struct mdata_iatt *times, pid_t pid, int client_flags, int64_t seconds,
                 long nanoseconds, int flags);
int quick_show_over(struct iatt *iatt, const struct iatt *stub, uint64_t size, uint64_t blocks,
                    int fd, const struct mdata_iatt *times);
int quick_matches(const char *pattern, const char *name);
int glupy_look(const char *path, struct iatt *iatt);
int glupy_look_in(const char *path, struct iatt *iatt, const char *folder, struct iatt *parent,
                  const unsigned char *gfid, const struct mdata_iatt *times);
int quick_fstatat(int dirfd, const char *path, int flags, struct iatt *iatt,
                  const unsigned char *gfid, const struct mdata_iatt *times);
int quick_look(const char *path, struct iatt *iatt);
int quick_look_in(const char *path, struct iatt *iatt, const char *folder, struct iatt *parent,
                  const unsigned char *gfid, const struct mdata_iatt *times);
int glupy_create(const char *path, int flags, mode_t mode, uid_t uid, gid_t gid);
int glupy_same(const char *one, const char *other, int follow);
int glupy_link_handle(int fd, const char *path, const char *handle, const char *target);
int glupy_admit(int fd, const char *path, const unsigned char *gfid, const char *handle,
                const char *target, const char *record_key, const char *record,
                struct iatt *iatt, const char *folder, struct iatt *parent,
                const unsigned char *parent_gfid, const struct mdata_iatt *parent_times);
int glupy_remove(const char *path, const char *handle, const char *orphan, const char *folder,
                 struct iatt *parent, const unsigned char *parent_gfid,
                 const struct mdata_iatt *parent_times);
int glupy_fallocate_between(int fd, int mode, off_t offset, off_t length, struct iatt *before,
                            struct iatt *after, const unsigned char *gfid,
                            const struct mdata_iatt *times);
ssize_t glupy_pwritev_between(int fd, const struct iovec *vector, int count, off_t offset,
                              struct iatt *before, struct iatt *after, const unsigned char *gfid,
                              const struct mdata_iatt *times);
int glupy_list(int fd, off_t offset, size_t room, const char *hidden, int files_only,
               gf_dirent_t *head, int *end);
void glupy_fill_entries(gf_dirent_t *head, inode_t *folder, const char *path, int with_times);
int gf_string2bytesize_uint64(const char *str, uint64_t *n);
void quick_xxh64(const unsigned char *data, size_t len, unsigned long long seed, char *xxh64);

/* ---- libglusterfs ---- */

fd_t *fd_ref(fd_t *fd);
void fd_unref(fd_t *fd);
inode_t *inode_ref(inode_t *inode);
inode_t *inode_unref(inode_t *inode);
inode_t *inode_new(inode_table_t *table);
inode_t *inode_parent(inode_t *inode, unsigned char *pargfid, const char *name);
fd_t *fd_anonymous(inode_t *inode);
inode_t *inode_find(inode_table_t *table, unsigned char *gfid);
inode_t *inode_grep(inode_table_t *table, inode_t *parent, const char *name);
int inode_path(inode_t *inode, const char *name, char **bufp);
dict_t *dict_ref(dict_t *dict);

gf_boolean_t dict_del(dict_t *dict, char *key);
int64_t data_to_int64(data_t *data);
uint64_t data_to_uint64(data_t *data);
struct iobref *iobref_new(void);
struct iobref *iobref_ref(struct iobref *iobref);
void iobref_unref(struct iobref *iobref);
int iobref_add(struct iobref *iobref, struct iobuf *iobuf);
int iobref_merge(struct iobref *to, struct iobref *from);
struct glupy_buffer { struct iobuf *iobuf; struct iobref *iobref; struct iovec *vector; ...; };
struct glupy_buffer *glupy_buffer_new(size_t size, size_t alignment);
void quick_buffer_free(void *buffer);
ssize_t glupy_pread(int fd, struct glupy_buffer *buffer, size_t size, off_t offset);
struct glupy_buffer *glupy_pread_before(int fd, size_t size, size_t alignment, off_t offset,
                                        struct iatt *after, const unsigned char *gfid,
                                        const struct mdata_iatt *times);
struct glupy_buffer *quick_cached_pread_before(int fd, size_t size, off_t offset,
                                               struct iatt *after, const unsigned char *gfid,
                                               const struct mdata_iatt *times);
struct glupy_buffer *quick_cached_read(int fd, size_t size, off_t offset);
dict_t *dict_copy_with_ref(dict_t *from, dict_t *to);
int dict_set_double(dict_t *dict, char *key, double value);

int xlator_option_validate(xlator_t *xl, char *key, char *value, volume_option_t *opt,
                           char **op_errstr);
int xlator_option_init_str(xlator_t *xl, dict_t *options, char *key, char **value);
int xlator_option_init_int64(xlator_t *xl, dict_t *options, char *key, int64_t *value);
int xlator_option_init_size_uint64(xlator_t *xl, dict_t *options, char *key, uint64_t *value);
int xlator_option_init_double(xlator_t *xl, dict_t *options, char *key, double *value);
int xlator_option_init_percent(xlator_t *xl, dict_t *options, char *key, double *value);
int xlator_option_init_percent_or_size(xlator_t *xl, dict_t *options, char *key, double *value);
int xlator_option_init_bool(xlator_t *xl, dict_t *options, char *key, gf_boolean_t *value);
int xlator_option_init_time(xlator_t *xl, dict_t *options, char *key, time_t *value);

/* ---- system calls ---- */

int fallocate(int fd, int mode, off_t offset, off_t len);
ssize_t pwritev(int fd, const struct iovec *vector, int count, off_t offset);
int statvfs(const char *path, struct statvfs *buf);
int syncfs(int fd);
typedef struct __acl_ext *acl_t;
typedef int... acl_type_t;
acl_t acl_get_file(const char *path, acl_type_t type);
acl_t acl_get_fd(int fd);
int acl_set_file(const char *path, acl_type_t type, acl_t acl);
acl_t acl_from_text(const char *text);
char *acl_to_any_text(acl_t acl, const char *prefix, char separator, int options);
int acl_free(void *object);
#define ACL_TYPE_ACCESS ...
#define ACL_TYPE_DEFAULT ...
#define TEXT_ABBREVIATE ...
#define TEXT_NUMERIC_IDS ...
#define FALLOC_FL_KEEP_SIZE ...
#define FALLOC_FL_PUNCH_HOLE ...
#define FALLOC_FL_ZERO_RANGE ...
#define AT_SYMLINK_NOFOLLOW ...
#define AT_EMPTY_PATH ...
#define GD_OP_VERSION_MAX ...
#define IATT_GFID ...
#define IATT_INO ...
#define GF_XATTROP_ADD_ARRAY ...
#define GF_XATTROP_ADD_ARRAY64 ...
#define GF_XATTROP_ADD_ARRAY_WITH_DEFAULT ...
#define GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT ...
#define GF_XATTROP_GET_AND_SET ...
#define GF_CLIENT_PID_MAX ...
#define GF_SERVER_PID_TRASH ...
#define GF_SEEK_DATA ...
#define EVENT_POSIX_SAME_GFID ...
#define EVENT_POSIX_ALREADY_PART_OF_VOLUME ...
#define EVENT_POSIX_BRICK_NOT_IN_VOLUME ...
#define EVENT_POSIX_BRICK_VERIFICATION_FAILED ...
#define EVENT_POSIX_ACL_NOT_SUPPORTED ...
#define EVENT_POSIX_HEALTH_CHECK_FAILED ...
#define GF_SEEK_HOLE ...
#define MDATA_CTIME ...
#define MDATA_MTIME ...
#define MDATA_ATIME ...
#define MDATA_PAR_CTIME ...
#define MDATA_PAR_MTIME ...
#define MDATA_PAR_ATIME ...
#define GF_SET_ATTR_MODE ...
#define GF_SET_ATTR_UID ...
#define GF_SET_ATTR_GID ...
#define GF_SET_ATTR_SIZE ...
#define GF_SET_ATTR_ATIME ...
#define GF_SET_ATTR_MTIME ...
#define GF_SET_ATTR_CTIME ...
#define GF_ATTR_ATIME_NOW ...
#define GF_ATTR_MTIME_NOW ...

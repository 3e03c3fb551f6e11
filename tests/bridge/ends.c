/* The two ends of a fop that goes through a translator: near winds to it, far stands below it.

   Nothing here is the bridge's. Every value is made from a seed, distinct from all others of the
   call, and written as JSON by the end that makes it and by the end that gets it. What dies with a
   call in GlusterFS (locs, strings, structs, arrays) is overwritten and freed as soon as the call
   has returned. Counted objects (fd, inode, dict, iobref, iobuf) have a witness: one reference of
   the test's own, by which their counts can be read before, during and after. */

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include <glusterfs/xlator.h>
#include <glusterfs/defaults.h>
#include <glusterfs/client_t.h>

/* ---- text ---- */

struct text {
    char *bytes; /* NULL: nothing was written */
    size_t used;
    size_t room;
};

static void make_room(struct text *text, size_t size)
{
    if (text->used + size <= text->room)
        return;
    text->room = 2 * (text->used + size);
    text->bytes = realloc(text->bytes, text->room);
    if (!text->bytes)
        abort();
}

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
    va_list arguments;
    size_t size;
    va_start(arguments, format);
    size = vsnprintf(NULL, 0, format, arguments) + 1;
    va_end(arguments);
    make_room(text, size);
    va_start(arguments, format);
    text->used += vsnprintf(text->bytes + text->used, size, format, arguments);
    va_end(arguments);
}

/* Every value ends with a comma; what closes a list or an object writes over the last one. */
static void put_end(struct text *text, const char *end)
{
    if (text->bytes[text->used - 1] == ',')
        text->used--;
    put(text, "%s,", end);
}

static void put_name(struct text *text, const char *name)
{
    if (name)
        put(text, "\"%s\":", name);
}

static void put_signed(struct text *text, const char *name, int64_t value)
{
    put_name(text, name);
    put(text, "%lld,", (long long)value);
}

static void put_unsigned(struct text *text, const char *name, uint64_t value)
{
    put_name(text, name);
    put(text, "%llu,", (unsigned long long)value);
}

#define PUT_NUMBER(text, name, value)                                                              \
    ((typeof(value))-1 < 0 ? put_signed(text, name, (int64_t)(value))                              \
                           : put_unsigned(text, name, (uint64_t)(value)))

static void put_address(struct text *text, const char *name, const void *address)
{
    put_unsigned(text, name, (uintptr_t)address);
}

static void put_bytes(struct text *text, const char *name, const void *data, size_t size)
{
    size_t i;
    put_name(text, name);
    put(text, "\"");
    make_room(text, 2 * size + 1);
    for (i = 0; i < size; i++) {
        text->bytes[text->used++] = "0123456789abcdef"[((const unsigned char *)data)[i] >> 4];
        text->bytes[text->used++] = "0123456789abcdef"[((const unsigned char *)data)[i] & 15];
    }
    put(text, "\",");
}

/* Opens the value of a pointer; false, with null written, if there is none. */
static int put_open(struct text *text, const char *name, const void *value, const char *opening)
{
    put_name(text, name);
    put(text, "%s", value ? opening : "null,");
    return value != NULL;
}

static void put_string(struct text *text, const char *name, const char *value)
{
    if (put_open(text, name, value, ""))
        put_bytes(text, NULL, value, strlen(value));
}

static void put_opaque(struct text *text, const char *name, const void *value)
{
    put_address(text, name, value);
}

static void put_checksum(struct text *text, const char *name, const uint8_t *value)
{
    if (put_open(text, name, value, ""))
        put_bytes(text, NULL, value, 32);
}

static void put_inode(struct text *text, const char *name, inode_t *inode)
{
    if (!put_open(text, name, inode, "{"))
        return;
    put_address(text, "address", inode);
    put_bytes(text, "gfid", inode->gfid, 16);
    put_signed(text, "ia_type", inode->ia_type);
    put_end(text, "}");
}

static void put_fd(struct text *text, const char *name, fd_t *fd)
{
    if (!put_open(text, name, fd, "{"))
        return;
    put_address(text, "address", fd);
    put_inode(text, "inode", fd->inode);
    put_signed(text, "flags", fd->flags);
    put_unsigned(text, "pid", fd->pid);
    put_signed(text, "anonymous", fd->anonymous);
    put_end(text, "}");
}

static void put_loc(struct text *text, const char *name, const loc_t *loc)
{
    if (!put_open(text, name, loc, "{"))
        return;
    put_string(text, "path", loc->path);
    put_string(text, "name", loc->name);
    put_inode(text, "inode", loc->inode);
    put_inode(text, "parent", loc->parent);
    put_bytes(text, "gfid", loc->gfid, 16);
    put_bytes(text, "pargfid", loc->pargfid, 16);
    put_end(text, "}");
}

#define IATT_NUMBERS(_)                                                                            \
    _(ia_flags) _(ia_ino) _(ia_dev) _(ia_rdev) _(ia_size) _(ia_nlink) _(ia_uid) _(ia_gid)          \
    _(ia_blksize) _(ia_blocks) _(ia_atime) _(ia_mtime) _(ia_ctime) _(ia_btime) _(ia_atime_nsec)    \
    _(ia_mtime_nsec) _(ia_ctime_nsec) _(ia_btime_nsec) _(ia_attributes) _(ia_attributes_mask)
#define MDATA_NUMBERS(_)                                                                           \
    _(ia_atime) _(ia_mtime) _(ia_ctime) _(ia_atime_nsec) _(ia_mtime_nsec) _(ia_ctime_nsec)
#define STATVFS_NUMBERS(_)                                                                         \
    _(f_bsize) _(f_frsize) _(f_blocks) _(f_bfree) _(f_bavail) _(f_files) _(f_ffree) _(f_favail)    \
    _(f_fsid) _(f_flag) _(f_namemax)
#define FLOCK_NUMBERS(_) _(l_type) _(l_whence) _(l_start) _(l_len) _(l_pid)
#define LEASE_NUMBERS(_) _(cmd) _(lease_type) _(lease_flags)
#define PUT_MEMBER(member) PUT_NUMBER(text, #member, it->member);
#define PROTECTION(_, who, shift)                                                                  \
    _(who.read, shift + 2) _(who.write, shift + 1) _(who.exec, shift)
#define PROTECTIONS(_)                                                                             \
    _(suid, 11) _(sgid, 10) _(sticky, 9) PROTECTION(_, owner, 6) PROTECTION(_, group, 3)           \
    PROTECTION(_, other, 0)

static void put_iatt(struct text *text, const char *name, const struct iatt *it)
{
    unsigned protection = 0;
    if (!put_open(text, name, it, "{"))
        return;
    IATT_NUMBERS(PUT_MEMBER)
    put_bytes(text, "ia_gfid", it->ia_gfid, 16);
    put_signed(text, "ia_type", it->ia_type);
#define PUT_BIT(member, bit) protection |= it->ia_prot.member << (bit);
    PROTECTIONS(PUT_BIT)
    put_unsigned(text, "ia_prot", protection);
    put_end(text, "}");
}

static void put_statvfs(struct text *text, const char *name, const struct statvfs *it)
{
    if (!put_open(text, name, it, "{"))
        return;
    STATVFS_NUMBERS(PUT_MEMBER)
    put_end(text, "}");
}

static void put_flock(struct text *text, const char *name, const struct gf_flock *it)
{
    if (!put_open(text, name, it, "{"))
        return;
    FLOCK_NUMBERS(PUT_MEMBER)
    put_bytes(text, "l_owner", it->l_owner.data, it->l_owner.len);
    put_end(text, "}");
}

static void put_lease(struct text *text, const char *name, const struct gf_lease *it)
{
    if (!put_open(text, name, it, "{"))
        return;
    LEASE_NUMBERS(PUT_MEMBER)
    put_bytes(text, "lease_id", it->lease_id, sizeof it->lease_id);
    put_end(text, "}");
}

static void put_mdata(struct text *text, const char *name, const struct mdata_iatt *it)
{
    if (!put_open(text, name, it, "{"))
        return;
    MDATA_NUMBERS(PUT_MEMBER)
    put_end(text, "}");
}

/* A value as its type has it; numbers are kept as decimal text in a data_t. */
static void put_data(struct text *text, const char *name, const data_t *data)
{
    switch (data->data_type) {
        case GF_DATA_TYPE_INT:
            put_signed(text, name, strtoll(data->data, NULL, 10));
            break;
        case GF_DATA_TYPE_UINT:
            put_unsigned(text, name, strtoull(data->data, NULL, 10));
            break;
        case GF_DATA_TYPE_DOUBLE:
            put_name(text, name);
            put(text, "%.17g,", strtod(data->data, NULL));
            break;
        case GF_DATA_TYPE_STR:
        case GF_DATA_TYPE_STR_OLD:
            put_string(text, name, data->data);
            break;
        case GF_DATA_TYPE_IATT:
            put_iatt(text, name, (struct iatt *)data->data);
            break;
        case GF_DATA_TYPE_MDATA:
            put_mdata(text, name, (struct mdata_iatt *)data->data);
            break;
        default:
            put_bytes(text, name, data->data, data->len);
    }
}

static void put_dict(struct text *text, const char *name, dict_t *dict)
{
    data_pair_t *pair;
    if (!put_open(text, name, dict, "{"))
        return;
    put_address(text, "address", dict);
    put_open(text, "pairs", dict, "{");
    for (pair = dict->members_list; pair; pair = pair->next) {
        put_open(text, pair->key, pair, "{");
        put_signed(text, "type", pair->value->data_type);
        put_data(text, "value", pair->value);
        put_bytes(text, "bytes", pair->value->data, pair->value->len);
        put_end(text, "}");
    }
    put_end(text, "}");
    put_end(text, "}");
}

static void put_iobref(struct text *text, const char *name, struct iobref *iobref)
{
    if (!put_open(text, name, iobref, "{"))
        return;
    put_address(text, "address", iobref);
    put_signed(text, "used", iobref->used);
    put_end(text, "}");
}

static void put_vector(struct text *text, const char *name, const struct iovec *vector, int count)
{
    int i;
    if (!put_open(text, name, vector, "["))
        return;
    for (i = 0; i < count; i++) {
        put_open(text, NULL, vector, "{");
        put_address(text, "address", vector[i].iov_base);
        put_bytes(text, "data", vector[i].iov_base, vector[i].iov_len);
        put_end(text, "}");
    }
    put_end(text, "]");
}

static void put_dirents(struct text *text, const char *name, gf_dirent_t *head)
{
    gf_dirent_t *it;
    if (!put_open(text, name, head, "["))
        return;
    list_for_each_entry(it, &head->list, list)
    {
        put_open(text, NULL, it, "{");
        put_string(text, "d_name", it->d_name);
        put_unsigned(text, "d_ino", it->d_ino);
        put_unsigned(text, "d_off", it->d_off);
        put_unsigned(text, "d_len", it->d_len);
        put_unsigned(text, "d_type", it->d_type);
        put_iatt(text, "d_stat", &it->d_stat);
        put_dict(text, "dict", it->dict);
        put_inode(text, "inode", it->inode);
        put_end(text, "}");
    }
    put_end(text, "]");
}

static void put_locks(struct text *text, const char *name, lock_migration_info_t *head)
{
    lock_migration_info_t *it;
    if (!put_open(text, name, head, "["))
        return;
    list_for_each_entry(it, &head->list, list)
    {
        put_open(text, NULL, it, "{");
        put_flock(text, "flock", &it->flock);
        put_string(text, "client_uid", it->client_uid);
        put_unsigned(text, "lk_flags", it->lk_flags);
        put_end(text, "}");
    }
    put_end(text, "]");
}

static void put_root(struct text *text, const char *name, const call_stack_t *root)
{
    int i;
    put_open(text, name, root, "{");
    put_unsigned(text, "unique", root->unique);
    put_unsigned(text, "uid", root->uid);
    put_unsigned(text, "gid", root->gid);
    put_signed(text, "pid", root->pid);
    put_open(text, "groups", root, "[");
    for (i = 0; i < root->ngrps; i++)
        put_unsigned(text, NULL, root->groups[i]);
    put_end(text, "]");
    put_bytes(text, "lk_owner", root->lk_owner.data, root->lk_owner.len);
    put_string(text, "client", root->client ? root->client->client_uid : NULL);
    put_unsigned(text, "flags", root->flags);
    put_signed(text, "op", root->op);
    put_signed(text, "seconds", root->ctime.tv_sec);
    put_signed(text, "nanoseconds", root->ctime.tv_nsec);
    put_end(text, "}");
}

/* ---- values ---- */

enum counted { FD, INODE, DICT, IOBREF, IOBUF };
static const char *const counted_names[] = {"fd", "inode", "dict", "iobref", "iobuf"};

struct witness {
    enum counted type;
    void *object;
    int64_t resting; /* its count when nobody else refers to it */
};

/* What one end has made for one call. */
struct made {
    inode_table_t *table;
    uint64_t seed;
    int nulls; /* every pointer is NULL */
    size_t large; /* if not 0: length of the vector's last element */
    int count; /* elements of the vector */
    struct iobref *iobref;
    dict_t *dicts[16]; /* references to be given up when the call has returned */
    inode_t *inodes[32];
    fd_t *fds[4];
    struct iobref *iobrefs[2];
    gf_dirent_t *dirents;
    struct {
        void *memory;
        size_t size;
    } passing[64];
    int dicts_used, inodes_used, fds_used, iobrefs_used, passing_used;
    struct witness witnesses[64];
    int witnesses_used;
};

#define ADD(made, array, ...)                                                                      \
    do {                                                                                           \
        if ((made)->array##_used == sizeof(made)->array / sizeof *(made)->array)                   \
            abort();                                                                               \
        (made)->array[(made)->array##_used++] = (typeof(*(made)->array))__VA_ARGS__;               \
    } while (0)

static int64_t count_of(const struct witness *it)
{
    switch (it->type) {
        case FD: return GF_ATOMIC_GET(((fd_t *)it->object)->refcount);
        case INODE: return ((inode_t *)it->object)->ref;
        case DICT: return GF_ATOMIC_GET(((dict_t *)it->object)->refcount);
        case IOBREF: return GF_ATOMIC_GET(((struct iobref *)it->object)->ref);
        case IOBUF: return GF_ATOMIC_GET(((struct iobuf *)it->object)->ref);
    }
    abort();
}

static void drop_witness(const struct witness *it)
{
    switch (it->type) {
        case FD: fd_unref(it->object); break;
        case INODE: inode_unref(it->object); break;
        case DICT: dict_unref(it->object); break;
        case IOBREF: iobref_unref(it->object); break;
        case IOBUF: iobuf_unref(it->object); break;
    }
}

/* The next number: all 64 bits of it are used, and no two are alike (a permutation). */
static uint64_t make_number(struct made *made)
{
    uint64_t z = made->seed += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static void make_bytes(struct made *made, void *memory, size_t size)
{
    unsigned char *bytes = memory;
    size_t i;
    for (i = 0; i < size; i++)
        bytes[i] = make_number(made) >> 8;
}

/* Memory that is the caller's: overwritten and freed when the call has returned. */
static void *make_passing(struct made *made, size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        abort();
    ADD(made, passing, {memory, size});
    return memory;
}

/* A string with bytes that are not UTF-8. */
static char *make_text(struct made *made, const char *prefix)
{
    char text[96];
    size_t size = snprintf(text, sizeof text, "%s-\xc3\xa9\xff-%016llx", prefix,
                           (unsigned long long)make_number(made)) + 1;
    return memcpy(make_passing(made, size), text, size);
}

static char *make_string(struct made *made)
{
    return made->nulls ? NULL : make_text(made, "string");
}

/* Never followed, by nobody. */
static void *make_opaque(struct made *made)
{
    return made->nulls ? NULL : (void *)(uintptr_t)make_number(made);
}

static uint8_t *make_checksum(struct made *made)
{
    uint8_t *it;
    if (made->nulls)
        return NULL;
    it = make_passing(made, 32);
    make_bytes(made, it, 32);
    return it;
}

static inode_t *new_inode(struct made *made, int64_t resting)
{
    inode_t *it = inode_new(made->table);
    if (!it)
        abort();
    make_bytes(made, it->gfid, 16);
    it->ia_type = 1 + make_number(made) % 7;
    ADD(made, witnesses, {INODE, inode_ref(it), resting});
    return it;
}

static inode_t *make_inode(struct made *made)
{
    inode_t *it;
    if (made->nulls)
        return NULL;
    it = new_inode(made, 1);
    ADD(made, inodes, it);
    return it;
}

static fd_t *make_fd(struct made *made)
{
    fd_t *it;
    inode_t *inode;
    if (made->nulls)
        return NULL;
    inode = new_inode(made, 2); /* the fd's own */
    it = fd_create_uint64(inode, make_number(made));
    if (!it)
        abort();
    inode_unref(inode);
    it->flags = (int32_t)make_number(made);
    it->anonymous = make_number(made) % 2;
    ADD(made, witnesses, {FD, fd_ref(it), 1});
    ADD(made, fds, it);
    return it;
}

static loc_t *make_loc(struct made *made)
{
    loc_t *it;
    if (made->nulls)
        return NULL;
    it = make_passing(made, sizeof *it);
    it->path = make_text(made, "/folder/name");
    it->name = strrchr(it->path, '/') + 1;
    it->inode = make_inode(made);
    it->parent = make_inode(made);
    make_bytes(made, it->gfid, 16);
    make_bytes(made, it->pargfid, 16);
    return it;
}

#define MAKE_MEMBER(member) it->member = make_number(made);

static void fill_iatt(struct made *made, struct iatt *it)
{
    IATT_NUMBERS(MAKE_MEMBER)
    make_bytes(made, it->ia_gfid, 16);
    it->ia_type = 1 + make_number(made) % 7;
#define MAKE_BIT(member, bit) it->ia_prot.member = make_number(made) & 1;
    PROTECTIONS(MAKE_BIT)
}

static struct iatt *make_iatt(struct made *made)
{
    struct iatt *it;
    if (made->nulls)
        return NULL;
    it = make_passing(made, sizeof *it);
    fill_iatt(made, it);
    return it;
}

static struct statvfs *make_statvfs(struct made *made)
{
    struct statvfs *it;
    if (made->nulls)
        return NULL;
    it = make_passing(made, sizeof *it);
    STATVFS_NUMBERS(MAKE_MEMBER)
    return it;
}

static void fill_owner(struct made *made, gf_lkowner_t *it)
{
    it->len = 9 + make_number(made) % 100;
    make_bytes(made, it->data, it->len);
}

static void fill_flock(struct made *made, struct gf_flock *it)
{
    FLOCK_NUMBERS(MAKE_MEMBER)
    fill_owner(made, &it->l_owner);
}

static struct gf_flock *make_flock(struct made *made)
{
    struct gf_flock *it;
    if (made->nulls)
        return NULL;
    it = make_passing(made, sizeof *it);
    fill_flock(made, it);
    return it;
}

static struct gf_lease *make_lease(struct made *made)
{
    struct gf_lease *it;
    if (made->nulls)
        return NULL;
    it = make_passing(made, sizeof *it);
    LEASE_NUMBERS(MAKE_MEMBER)
    make_bytes(made, it->lease_id, sizeof it->lease_id);
    return it;
}

/* What a dict is to own, in libglusterfs's own memory. */
static void *make_given(size_t size)
{
    void *memory = GF_CALLOC(1, size, gf_common_mt_char);
    if (!memory)
        abort();
    return memory;
}

static void must(int result)
{
    if (result)
        abort();
}

/* A value of every type that fops carry. */
static dict_t *make_dict(struct made *made)
{
    dict_t *it;
    struct iatt *iatt;
    struct mdata_iatt *mdata;
    unsigned char *gfuuid, *bytes;
    if (made->nulls)
        return NULL;
    if (!(it = dict_new()))
        abort();
    must(dict_set_int8(it, "int8", (int8_t)make_number(made)));
    must(dict_set_int16(it, "int16", (int16_t)make_number(made)));
    must(dict_set_int32(it, "int32", (int32_t)make_number(made)));
    must(dict_set_int64(it, "int64", (int64_t)(make_number(made) | 1ULL << 63)));
    must(dict_set_uint32(it, "uint32", (uint32_t)make_number(made)));
    must(dict_set_uint64(it, "uint64", make_number(made) | 1ULL << 63));
    must(dict_set_double(it, "double", (double)(int32_t)make_number(made) / 64));
    must(dict_set_dynstr_with_alloc(it, "string", make_text(made, "value")));
    must(dict_set_dynstr_with_alloc(it, "empty string", ""));
    bytes = make_given(24);
    make_bytes(made, bytes, 24);
    bytes[3] = 0;
    must(dict_set_bin(it, "bytes", bytes, 24));
    gfuuid = make_given(16);
    make_bytes(made, gfuuid, 16);
    must(dict_set_gfuuid(it, "gfuuid", gfuuid, false));
    iatt = make_given(sizeof *iatt);
    fill_iatt(made, iatt);
    must(dict_set_iatt(it, "iatt", iatt, false));
    mdata = make_given(sizeof *mdata);
    {
        struct mdata_iatt *it = mdata;
        MDATA_NUMBERS(MAKE_MEMBER)
    }
    must(dict_set_mdata(it, "mdata", mdata, false));
    ADD(made, witnesses, {DICT, dict_ref(it), 1});
    ADD(made, dicts, it);
    return it;
}

static const size_t vector_lengths[] = {61, 0, 4099, 7};
#define VECTOR_COUNT (int)(sizeof vector_lengths / sizeof *vector_lengths)

static struct iovec *make_vector(struct made *made)
{
    struct iovec *it;
    struct iobuf *iobuf;
    int i;
    if (made->nulls)
        return NULL;
    made->count = VECTOR_COUNT;
    made->iobref = iobref_new();
    ADD(made, witnesses, {IOBREF, iobref_ref(made->iobref), 1});
    ADD(made, iobrefs, made->iobref);
    it = make_passing(made, made->count * sizeof *it);
    for (i = 0; i < made->count; i++) {
        it[i].iov_len = i == VECTOR_COUNT - 1 && made->large ? made->large : vector_lengths[i];
        if (!(iobuf = iobuf_get2(THIS->ctx->iobuf_pool, it[i].iov_len + 16)))
            abort();
        it[i].iov_base = (char *)iobuf->ptr + 5; /* aligned to nothing */
        make_bytes(made, it[i].iov_base, it[i].iov_len);
        must(iobref_add(made->iobref, iobuf));
        ADD(made, witnesses, {IOBUF, iobuf, 2}); /* the witness' and the iobref's */
    }
    return it;
}

static gf_dirent_t *make_dirents(struct made *made)
{
    gf_dirent_t *head, *it;
    int i;
    if (made->nulls)
        return NULL;
    head = make_passing(made, sizeof *head);
    INIT_LIST_HEAD(&head->list);
    for (i = 0; i < 3; i++) {
        if (!(it = gf_dirent_for_name(make_text(made, "entry"))))
            abort();
        it->d_ino = make_number(made);
        it->d_off = make_number(made);
        it->d_type = (uint32_t)make_number(made);
        fill_iatt(made, &it->d_stat);
        if (i) { /* the first as readdir's entries, the others as readdirp's */
            it->dict = dict_ref(make_dict(made));
            it->inode = inode_ref(make_inode(made));
        }
        list_add_tail(&it->list, &head->list);
    }
    return made->dirents = head;
}

static lock_migration_info_t *make_locks(struct made *made)
{
    lock_migration_info_t *head, *it;
    int i;
    if (made->nulls)
        return NULL;
    head = make_passing(made, sizeof *head);
    INIT_LIST_HEAD(&head->list);
    for (i = 0; i < 3; i++) {
        it = make_passing(made, sizeof *it);
        fill_flock(made, &it->flock);
        it->client_uid = make_text(made, "client");
        it->lk_flags = (uint32_t)make_number(made);
        list_add_tail(&it->list, &head->list);
    }
    return head;
}

/* The call has returned: what was the caller's own is gone. */
static void made_over(struct made *made)
{
    gf_dirent_t *entry;
    if (made->dirents) {
        list_for_each_entry(entry, &made->dirents->list, list)
        {
            memset(&entry->d_stat, 0xdb, sizeof entry->d_stat);
            memset(entry->d_name, 0xdb, strlen(entry->d_name));
        }
        gf_dirent_free(made->dirents);
        made->dirents = NULL;
    }
    while (made->dicts_used)
        dict_unref(made->dicts[--made->dicts_used]);
    while (made->fds_used)
        fd_unref(made->fds[--made->fds_used]);
    while (made->inodes_used)
        inode_unref(made->inodes[--made->inodes_used]);
    while (made->iobrefs_used)
        iobref_unref(made->iobrefs[--made->iobrefs_used]);
    while (made->passing_used) {
        made->passing_used--;
        memset(made->passing[made->passing_used].memory, 0xdb,
               made->passing[made->passing_used].size);
        free(made->passing[made->passing_used].memory);
    }
}

static void made_forget(struct made *made)
{
    while (made->witnesses_used)
        drop_witness(&made->witnesses[--made->witnesses_used]);
}

/* ---- one fop ---- */

enum reply_mode { INSIDE, LATE, BEFORE_RETURN };

struct run;

/* Far was wound to, and answers. */
struct answer {
    struct run *run;
    call_frame_t *frame;
    struct made made;
};

struct run {
    /* chosen by the test */
    xlator_t *near_xl;
    xlator_t *subject;
    xlator_t *far_xl;
    inode_table_t *table;
    int fop;
    int below; /* the fop that far is to expect, if another */
    int mode;
    int fails;      /* far answers with op_ret -1, callback arguments and all */
    int near_nulls; /* every pointer of the arguments is NULL */
    int far_nulls;  /* every pointer of the reply is NULL */
    int groups;
    int delay_ms;
    size_t large; /* see struct made */
    uint64_t seed;
    size_t stack; /* 0: on the caller's own thread */

    /* seen */
    struct text sent, received, replied, answered, example;
    struct text faults; /* what neither handler nor fop may touch, and what did */
    int entered;        /* far was wound to */
    int seen, callbacks; /* near was unwound to; that unwind is over */
    int wound;          /* near's wind has returned */
    int inside;         /* near was answered before */
    int same_thread;    /* near was answered by the thread that wound */
    int far_done;       /* far's unwinds that have returned */
    int unheld;         /* while the reply was still to come: counted arguments nobody else held */

    /* the ends' own */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t winder;
    client_t client; /* the call stack's: by it, far knows the run */
    char client_room[32]; /* GlusterFS 11: the name lies behind the client */
    struct made arguments, shown;
    struct answer answers[4];
    call_frame_t *frame;
};

static void fault(struct run *run, const char *what)
{
    pthread_mutex_lock(&run->lock);
    put(&run->faults, "%s; ", what);
    pthread_mutex_unlock(&run->lock);
}

static void start_made(struct run *run, struct made *made, uint64_t seed, int nulls)
{
    made->table = run->table;
    made->seed = seed;
    made->nulls = nulls;
    made->large = run->large;
}

static char near_local;

static struct run *run_of(const call_frame_t *frame)
{
    return list_entry(frame->root->client, struct run, client);
}

/* client_uid is a pointer in GlusterFS 10, an array at the end in 11. */
static void name_client(client_t *client, const char *name)
{
    char *member = (char *)client + offsetof(client_t, client_uid);
    if (__builtin_types_compatible_p(__typeof__(((client_t *)0)->client_uid), char *))
        memcpy(member, &name, sizeof name);
    else
        strcpy(member, name);
}

static struct made *near_begins(struct run *run)
{
    struct made *made = &run->arguments;
    call_stack_t *root;
    int i;
    start_made(run, made, run->seed, run->near_nulls);
    run->winder = pthread_self();
    run->frame = create_frame(run->near_xl, run->near_xl->ctx->pool);
    if (!run->frame)
        abort();
    run->frame->local = &near_local;
    root = run->frame->root;
    root->op = run->fop;
    root->unique = make_number(made);
    root->uid = make_number(made);
    root->gid = make_number(made);
    root->pid = -(pid_t)(make_number(made) % 1000000) - 2;
    must(call_stack_alloc_groups(root, run->groups));
    for (i = 0; i < run->groups; i++)
        root->groups[i] = make_number(made);
    fill_owner(made, &root->lk_owner);
    name_client(&run->client, "a-client-1234-volume");
    root->client = &run->client;
    root->flags = make_number(made);
    root->ctime.tv_sec = make_number(made);
    root->ctime.tv_nsec = make_number(made) % 1000000000;
    put(&run->sent, "{");
    put_root(&run->sent, "frame", root);
    return made;
}

static void near_wound(struct run *run)
{
    made_over(&run->arguments);
    pthread_mutex_lock(&run->lock);
    run->wound = 1;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static struct text *near_answered(struct run *run, call_frame_t *frame, void *cookie,
                                  xlator_t *this, int32_t op_ret, int32_t op_errno)
{
    if (this != run->near_xl || THIS != this)
        fault(run, "near: this or THIS is another translator");
    if (frame != run->frame || cookie != run)
        fault(run, "near: another frame or cookie");
    if (!run->seen && frame->local != &near_local)
        fault(run, "near: its frame->local was changed");
    run->answered.used = 0;
    put(&run->answered, "{");
    put_signed(&run->answered, "op_ret", op_ret);
    put_signed(&run->answered, "op_errno", op_errno);
    return &run->answered;
}

static void near_ends(struct run *run, call_frame_t *frame)
{
    int first;
    put_end(&run->answered, "}");
    pthread_mutex_lock(&run->lock);
    first = !run->seen++;
    run->inside = !run->wound;
    run->same_thread = pthread_equal(run->winder, pthread_self());
    pthread_mutex_unlock(&run->lock);
    if (first) {
        frame->local = NULL;
        STACK_DESTROY(frame->root);
    }
    pthread_mutex_lock(&run->lock);
    run->callbacks++;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static struct text *far_begins(call_frame_t *frame, xlator_t *this, int fop)
{
    struct run *run = run_of(frame);
    struct answer *answer;
    if (this != run->far_xl || THIS != this)
        fault(run, "far: this or THIS is another translator");
    if (fop != (run->below ? run->below : run->fop) || (int)frame->op != fop)
        fault(run, "far: another fop, or the frame has another number");
    if (frame->this != this || frame->local)
        fault(run, "far: a frame that is not its own");
    if (run->entered == sizeof run->answers / sizeof *run->answers)
        abort();
    answer = &run->answers[run->entered++];
    answer->run = run;
    answer->frame = frame;
    run->received.used = 0;
    put(&run->received, "{");
    put_root(&run->received, "frame", frame->root);
    return &run->received;
}

static void far_answers(struct answer *answer);

static void *far_thread(void *given)
{
    struct answer *answer = given;
    struct run *run = answer->run;
    THIS = run->far_xl;
    if (run->mode == LATE) {
        struct made *made = &run->arguments;
        int i;
        pthread_mutex_lock(&run->lock);
        while (!run->wound)
            pthread_cond_wait(&run->changed, &run->lock);
        pthread_mutex_unlock(&run->lock);
        usleep(1000 * run->delay_ms);
        for (i = 0; i < made->witnesses_used; i++)
            run->unheld += count_of(&made->witnesses[i]) == made->witnesses[i].resting &&
                           made->witnesses[i].type != IOBUF &&
                           made->witnesses[i].resting == 1;
    }
    far_answers(answer);
    return NULL;
}

static int32_t far_ends(struct run *run)
{
    struct answer *answer = &run->answers[run->entered - 1];
    pthread_t thread;
    pthread_attr_t attributes;
    put_end(&run->received, "}");
    if (run->mode == INSIDE) {
        far_answers(answer);
        return 0;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    must(pthread_create(&thread, &attributes, far_thread, answer));
    pthread_attr_destroy(&attributes);
    if (run->mode == BEFORE_RETURN)
        must(pthread_join(thread, NULL));
    else
        must(pthread_detach(thread));
    return 0;
}

/* Makes a reply: to answer with, or only to be shown. */
static struct made *far_replies(struct run *run, struct answer *answer, int32_t *op_ret,
                                int32_t *op_errno)
{
    struct made *made = answer ? &answer->made : &run->shown;
    struct text *text = answer ? &run->replied : &run->example;
    start_made(run, made, ~run->seed, run->far_nulls);
    *op_ret = run->fails ? -1 : (int32_t)(make_number(made) >> 34);
    *op_errno = 1 + make_number(made) % 1000;
    text->used = 0;
    put(text, "{");
    put_signed(text, "op_ret", *op_ret);
    put_signed(text, "op_errno", *op_errno);
    return made;
}

static void far_over(struct answer *answer)
{
    struct run *run = answer->run;
    made_over(&answer->made);
    pthread_mutex_lock(&run->lock);
    run->far_done++;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* ---- what the test calls; near_winds and the tables are generated behind this file ---- */

static void near_winds(struct run *run);
static struct xlator_fops far_fops;

struct run *run_new(xlator_t *near_xl, xlator_t *subject, xlator_t *far_xl, inode_table_t *table)
{
    struct run *run = calloc(1, sizeof *run);
    if (!run)
        abort();
    run->near_xl = near_xl;
    run->subject = subject;
    run->far_xl = far_xl;
    run->table = table;
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->changed, NULL);
    return run;
}

static void *near_thread(void *given)
{
    struct run *run = given;
    THIS = run->near_xl;
    near_winds(run);
    return NULL;
}

/* Wind; returns when the wind has. */
void run_wind(struct run *run)
{
    xlator_t *caller = THIS;
    if (run->stack) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        must(pthread_attr_setstacksize(&attributes, run->stack));
        must(pthread_create(&thread, &attributes, near_thread, run));
        pthread_attr_destroy(&attributes);
        must(pthread_join(thread, NULL));
    } else {
        near_thread(run);
    }
    THIS = caller;
}

/* Wait until near is answered and far, if it was reached, is done. 0: it did not come. */
int run_wait(struct run *run, int ms)
{
    struct timespec until;
    int late = 0, done;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&run->lock);
    while (!(done = run->callbacks && run->far_done == run->entered) && !late)
        late = pthread_cond_timedwait(&run->changed, &run->lock, &until);
    pthread_mutex_unlock(&run->lock);
    return done;
}

void text_free(struct text *text)
{
    free(text->bytes);
}

/* Give up the witnesses: what nobody else refers to is freed, and overwritten if it can be had
   again. */
void run_forget(struct run *run)
{
    struct iobuf *taken[2 * VECTOR_COUNT];
    struct iobuf_pool *pool = run->near_xl->ctx->iobuf_pool;
    int i;
    made_forget(&run->arguments);
    made_forget(&run->shown);
    for (i = 0; i < run->entered; i++)
        made_forget(&run->answers[i].made);
    for (i = 0; i < 2 * VECTOR_COUNT; i++) {
        size_t size = vector_lengths[i % VECTOR_COUNT] + 16;
        if (!(taken[i] = iobuf_get2(pool, size)))
            abort();
        memset(taken[i]->ptr, 0xdb, taken[i]->page_size);
    }
    while (i)
        iobuf_unref(taken[--i]);
}

static void put_references(struct text *text, const char *whose, const struct made *made)
{
    int i;
    for (i = 0; i < made->witnesses_used; i++) {
        const struct witness *it = &made->witnesses[i];
        int64_t more = count_of(it) - it->resting;
        if (more)
            put(text, "%s %s %+lld, ", whose, counted_names[it->type], (long long)more);
    }
}

/* What is still referred to by others, and what was given up too often: "argument's fd +1, ". */
void run_references(struct run *run, struct text *text)
{
    int i;
    put(text, "%s", "");
    put_references(text, "argument's", &run->arguments);
    put_references(text, "own reply's", &run->shown);
    for (i = 0; i < run->entered; i++)
        put_references(text, "reply's", &run->answers[i].made);
}

void run_free(struct run *run)
{
    struct text *texts[] = {&run->sent,     &run->received, &run->replied,
                            &run->answered, &run->example,  &run->faults};
    size_t i;
    run_forget(run);
    for (i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]->bytes);
    pthread_mutex_destroy(&run->lock);
    pthread_cond_destroy(&run->changed);
    free(run);
}

static void far_shows(struct run *run);

/* Write what far would answer, for a handler to build its own reply from: run->example. */
void run_show(struct run *run)
{
    xlator_t *caller = THIS;
    THIS = run->far_xl;
    far_shows(run);
    made_over(&run->shown);
    THIS = caller;
}

struct xlator_fops *ends_put_far(xlator_t *this)
{
    struct xlator_fops *before = this->fops;
    this->fops = &far_fops;
    return before;
}

void ends_restore(xlator_t *this, struct xlator_fops *fops)
{
    this->fops = fops;
}

inode_table_t *ends_table(xlator_t *this)
{
    return inode_table_new(0, this, 0, 0);
}

void ends_drop_table(inode_table_t *table)
{
    inode_table_destroy(table);
}

int64_t ends_frames(xlator_t *this)
{
    return this->ctx->pool->cnt;
}

void *ends_fop(xlator_t *this, int number)
{
    return ((void **)this->fops)[number - 1];
}

void *ends_default_fop(int number)
{
    return ((void **)default_fops)[number - 1];
}

/* The translator that GlusterFS loads: starting Python, init and fini, the other callbacks, and
   struct access. It stands behind bridge.h and the generated fops, in one C file. */

/* ---- starting Python ---- */

static int attached; /* set from Python: the environment imports this very file */

static void glupy_attach(void)
{
    attached = 1;
}

static void glupy_log(const char *domain, int level, const char *file, int line,
                      const char *function, const char *message)
{
    _gf_log(domain, file, function, line, level, "%s", message);
}

static void refuse(xlator_t *this, const char *why, const char *detail)
{
    gf_log(this->name, GF_LOG_ERROR, "%s%s%s", why, detail ? ": " : "", detail ? detail : "");
}

/* One line, then the whole traceback: what Python says when glupy itself cannot be imported. */
static void refuse_exception(xlator_t *this, const char *why)
{
    PyObject *type, *value, *trace, *line = NULL, *module = NULL, *lines = NULL, *text = NULL;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    line = value ? PyObject_Str(value) : NULL;
    refuse(this, why, line ? PyUnicode_AsUTF8(line) : "unknown error");
    if ((module = PyImport_ImportModule("traceback")) &&
        (lines = PyObject_CallMethod(module, "format_exception", "OOO", type, value ? value : Py_None,
                                     trace ? trace : Py_None)) &&
        (text = PyUnicode_Join(PyUnicode_FromString(""), lines)))
        gf_log(this->name, GF_LOG_ERROR, "%s", PyUnicode_AsUTF8(text));
    PyErr_Clear();
    Py_XDECREF(type), Py_XDECREF(value), Py_XDECREF(trace), Py_XDECREF(line);
    Py_XDECREF(module), Py_XDECREF(lines), Py_XDECREF(text);
}

extern xlator_api_t xlator_api;

/* `glupy install` puts a link to the environment's python beside the types: XLATORDIR/glupy-python.
   Our own path is XLATORDIR/KIND/NAME.so. */
static int find_python(char *path, size_t size)
{
    Dl_info info;
    int levels;
    char *slash;
    ssize_t length;
    char link[PATH_MAX];
    if (!dladdr(&xlator_api, &info) || strlen(info.dli_fname) + 16 > sizeof link)
        return -1;
    strcpy(link, info.dli_fname);
    for (levels = 0; levels < 2; levels++) {
        if (!(slash = strrchr(link, '/')))
            return -1;
        *slash = 0;
    }
    strcat(link, "/glupy-python");
    length = readlink(link, path, size - 1);
    if (length <= 0)
        return -1;
    path[length] = 0;
    return 0;
}

static int initialize_python(xlator_t *this)
{
    PyConfig config;
    PyStatus status;
    Dl_info info;
    char python[PATH_MAX];
    if (find_python(python, sizeof python) || access(python, X_OK)) {
        refuse(this, "there is no Python environment for this translator: run 'glupy install' in "
                     "the environment that has it", NULL);
        return -1;
    }
    /* GlusterFS loads us in local scope; extension modules need libpython's symbols in the global. */
    if (dladdr((void *)&Py_IsInitialized, &info))
        dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
    PyConfig_InitIsolatedConfig(&config);
    config.write_bytecode = 0; /* a brick's umask is 0: all could write what the next one runs */
    status = PyConfig_SetBytesString(&config, &config.program_name, python);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        refuse(this, "Python did not start", status.err_msg);
        return -1;
    }
    return 0;
}

static int start_python(xlator_t *this)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    PyGILState_STATE state = PyGILState_UNLOCKED;
    PyObject *entry = NULL;
    int started = 0;
    if (attached)
        return 0;
    pthread_mutex_lock(&lock);
    if (!Py_IsInitialized()) {
        if (initialize_python(this)) {
            pthread_mutex_unlock(&lock);
            return -1;
        }
        started = 1;
    } else {
        state = PyGILState_Ensure();
    }
    entry = PyImport_ImportModule("glupy._entry");
    if (!entry)
        refuse_exception(this, "the environment cannot import glupy");
    else if (!attached)
        refuse(this, "the environment imports another glupy than the one that GlusterFS loaded: "
                     "run 'glupy install' again", NULL);
    Py_XDECREF(entry);
    if (started)
        PyEval_SaveThread();
    else
        PyGILState_Release(state);
    pthread_mutex_unlock(&lock);
    return attached ? 0 : -1;
}

/* ---- what GlusterFS calls besides fops; Python's side of each is in glupy/_entry.py ---- */

static int32_t python_init(xlator_t *this);
static void python_fini(void *self);
static int32_t python_reconfigure(void *self, dict_t *options);
static int32_t python_notify(void *self, int32_t event, void *data);
static void python_forget(void *self, inode_t *inode);
static void python_release(void *self, fd_t *fd, int directory);
static void python_merge(void *self, inode_t *inode, inode_t *linked);
static int32_t python_invalidate(void *self, inode_t *inode);
static int32_t python_client(void *self, client_t *client, int destroyed);
static void python_fdclose(void *self, fd_t *fd, int directory);
static int32_t python_dump(void *self);

struct other_call {
    void *self;
    xlator_t *this;
    inode_t *inode, *linked;
    fd_t *fd;
    client_t *client;
    dict_t *options;
    void *data;
    int32_t number;
    int32_t result;
};

#define ON_LARGE_STACK(NAME, CALL)                                                                 \
    static void large_##NAME(void *given)                                                          \
    {                                                                                              \
        struct other_call *it = given;                                                             \
        CALL;                                                                                      \
    }

ON_LARGE_STACK(init, it->result = python_init(it->this))
ON_LARGE_STACK(fini, python_fini(it->self))
ON_LARGE_STACK(reconfigure, it->result = python_reconfigure(it->self, it->options))
ON_LARGE_STACK(notify, it->result = python_notify(it->self, it->number, it->data))
ON_LARGE_STACK(forget, python_forget(it->self, it->inode))
ON_LARGE_STACK(release, python_release(it->self, it->fd, it->number))
ON_LARGE_STACK(merge, python_merge(it->self, it->inode, it->linked))
ON_LARGE_STACK(invalidate, it->result = python_invalidate(it->self, it->inode))
ON_LARGE_STACK(client, it->result = python_client(it->self, it->client, it->number))
ON_LARGE_STACK(fdclose, python_fdclose(it->self, it->fd, it->number))
ON_LARGE_STACK(dump, it->result = python_dump(it->self))

/* After fini there is no instance: an inode table is destroyed later than its translators. */
#define CALL_PYTHON(NAME, ...)                                                                     \
    struct glupy_instance *instance = this->private;                                               \
    struct other_call call = {.this = this, .self = instance ? instance->self : NULL, __VA_ARGS__}; \
    if (instance)                                                                                  \
    glupy_on_large_stack(large_##NAME, &call)

static int32_t cbk_forget(xlator_t *this, inode_t *inode)
{
    CALL_PYTHON(forget, .inode = inode);
    return 0;
}

static int32_t cbk_release(xlator_t *this, fd_t *fd)
{
    CALL_PYTHON(release, .fd = fd);
    return 0;
}

static int32_t cbk_releasedir(xlator_t *this, fd_t *fd)
{
    CALL_PYTHON(release, .fd = fd, .number = 1);
    return 0;
}

static void cbk_ictxmerge(xlator_t *this, fd_t *fd, inode_t *inode, inode_t *linked)
{
    CALL_PYTHON(merge, .fd = fd, .inode = inode, .linked = linked);
}

static int32_t cbk_invalidate(xlator_t *this, inode_t *inode)
{
    CALL_PYTHON(invalidate, .inode = inode);
    return call.result;
}

static int32_t cbk_client_destroy(xlator_t *this, client_t *client)
{
    CALL_PYTHON(client, .client = client, .number = 1);
    return call.result;
}

static int32_t cbk_client_disconnect(xlator_t *this, client_t *client)
{
    CALL_PYTHON(client, .client = client);
    return call.result;
}

static void cbk_fdclose(xlator_t *this, fd_t *fd)
{
    CALL_PYTHON(fdclose, .fd = fd);
}

static void cbk_fdclosedir(xlator_t *this, fd_t *fd)
{
    CALL_PYTHON(fdclose, .fd = fd, .number = 1);
}

static int32_t dump_priv(xlator_t *this)
{
    CALL_PYTHON(dump);
    return call.result;
}

static int32_t api_notify(xlator_t *this, int32_t event, void *data, ...)
{
    CALL_PYTHON(notify, .number = event, .data = data);
    return instance ? call.result : default_notify(this, event, data);
}

static int32_t api_reconfigure(xlator_t *this, dict_t *options)
{
    CALL_PYTHON(reconfigure, .options = options);
    return call.result;
}

static int32_t api_mem_acct_init(xlator_t *this)
{
    return xlator_mem_acct_init(this, gf_common_mt_end);
}

static struct xlator_fops no_fops;
static struct xlator_cbks context_cbks = {
    .forget = cbk_forget,
    .release = cbk_release,
    .releasedir = cbk_releasedir,
    .ictxmerge = cbk_ictxmerge,
};
static struct xlator_dumpops no_dumpops;

static void api_fini(xlator_t *this)
{
    struct glupy_instance *instance = this->private;
    if (instance) {
        struct other_call call = {.this = this, .self = instance->self};
        glupy_on_large_stack(large_fini, &call);
        this->fops = &no_fops;
        this->cbks = &context_cbks;
        this->dumpops = &no_dumpops;
        this->private = NULL;
        free(instance);
    }
}

static int32_t api_init(xlator_t *this)
{
    struct glupy_instance *instance;
    struct other_call call = {.this = this, .result = -1};
    if (start_python(this))
        return -1;
    instance = calloc(1, sizeof *instance);
    if (!instance)
        return -1;
    instance->fops = *this->fops;
    instance->cbks = context_cbks;
    this->private = instance;
    glupy_on_large_stack(large_init, &call);
    if (call.result) {
        this->private = NULL;
        free(instance);
        return -1;
    }
    this->fops = &instance->fops;
    this->cbks = &instance->cbks;
    this->dumpops = &instance->dumpops;
    return 0;
}

xlator_api_t xlator_api = {
    .op_version = {1},
    .identifier = "glupy",
    .category = GF_EXPERIMENTAL,
    .init = api_init,
    .fini = api_fini,
    .reconfigure = api_reconfigure,
    .mem_acct_init = api_mem_acct_init,
    .notify = api_notify,
    .fops = &no_fops,
    .cbks = &context_cbks,
    .dumpops = &no_dumpops,
};

/* ---- what Python asks of an instance ---- */

static void glupy_set_self(xlator_t *this, void *self)
{
    ((struct glupy_instance *)this->private)->self = self;
}

/* A leaf has no child for the defaults to wind to. */
static void glupy_make_leaf(xlator_t *this)
{
    ((struct glupy_instance *)this->private)->fops = leaf_fops;
}

static void glupy_set_fop(xlator_t *this, int number)
{
    struct glupy_instance *instance = this->private;
    void **to = (void **)&instance->fops, **from = (void **)&trampoline_fops;
    to[number - 1] = from[number - 1];
}

static void glupy_set_passed(xlator_t *this, int number)
{
    struct glupy_instance *instance = this->private;
    instance->passed[number] = 1;
}

static void *glupy_get_fop(xlator_t *this, int number)
{
    return ((void **)this->fops)[number - 1];
}

static void *glupy_get_default_fop(int number)
{
    return ((void **)default_fops)[number - 1];
}

static int glupy_set_callback(xlator_t *this, const char *name)
{
    struct glupy_instance *instance = this->private;
    if (!strcmp(name, "invalidate"))
        instance->cbks.invalidate = cbk_invalidate;
    else if (!strcmp(name, "client_destroy"))
        instance->cbks.client_destroy = cbk_client_destroy;
    else if (!strcmp(name, "client_disconnect"))
        instance->cbks.client_disconnect = cbk_client_disconnect;
    else if (!strcmp(name, "fdclose"))
        instance->cbks.fdclose = cbk_fdclose;
    else if (!strcmp(name, "fdclosedir"))
        instance->cbks.fdclosedir = cbk_fdclosedir;
    else
        return -1;
    return 0;
}

static void glupy_set_dump(xlator_t *this)
{
    ((struct glupy_instance *)this->private)->dumpops.priv = dump_priv;
}

static uint64_t glupy_counted(xlator_t *this, int event)
{
    struct glupy_instance *instance = this->private;
    return instance ? atomic_load(&instance->counts[event]) : 0;
}

static int glupy_default_notify(xlator_t *this, int32_t event, void *data)
{
    return default_notify(this, event, data);
}

/* ---- the process that a brick is served by ----
   Of a brick that was attached the parents lead to a server that never ran: its volfile's own. So
   the one that runs is asked. */
static xlator_t *glupy_server(xlator_t *this)
{
    glusterfs_graph_t *graph = this->ctx->active;
    xlator_t *top = graph ? graph->first : NULL;
    return top && !strcmp(top->type, "protocol/server") ? top : NULL;
}

static int glupy_is_above(const xlator_t *xlator, const xlator_t *this)
{
    const xlator_list_t *each;
    if (xlator == this)
        return 1;
    for (each = xlator->children; each; each = each->next)
        if (glupy_is_above(each->xlator, this))
            return 1;
    return 0;
}

/* Return how many bricks the process serves, and that of `this`; 0 if it is no server. */
static int glupy_bricks(xlator_t *this, xlator_t **brick)
{
    xlator_t *server = glupy_server(this);
    xlator_list_t *each;
    int count = 0;
    *brick = NULL;
    if (!server)
        return 0;
    LOCK(&this->ctx->volfile_lock);
    for (each = server->children; each; each = each->next) {
        count++;
        if (glupy_is_above(each->xlator, this))
            *brick = each->xlator;
    }
    UNLOCK(&this->ctx->volfile_lock);
    return count;
}

static const char *glupy_built_for(void)
{
    return GLUPY_BUILT_FOR;
}

static int glupy_brick_count(xlator_t *this)
{
    xlator_t *brick;
    return glupy_bricks(this, &brick);
}

/* Whether the brick of `this` is on its way out: GlusterFS disconnects its clients first. */
static int glupy_brick_goes(xlator_t *this)
{
    xlator_t *brick;
    return glupy_bricks(this, &brick) && brick && brick->cleanup_starting;
}

static void glupy_detach_brick(xlator_t *this)
{
    xlator_t *brick, *server = glupy_server(this), *caller = THIS;
    int ours;
    if (!glupy_bricks(this, &brick) || !brick)
        return;
    LOCK(&this->ctx->volfile_lock);
    ours = !brick->call_cleanup && !brick->cleanup_starting;
    if (ours)
        brick->cleanup_starting = 1;
    UNLOCK(&this->ctx->volfile_lock);
    if (ours) {
        THIS = server;
        server->notify(server, GF_EVENT_CLEANUP, brick);
        THIS = caller;
    }
}

/* Tell glustereventsd; a GlusterFS that was built without events has no such function. */
#define USE_EVENTS 1
#include <glusterfs/events.h>
#pragma weak _gf_event

static void glupy_event(xlator_t *this, int event, const char *text)
{
    xlator_t *caller = THIS;
    if (!_gf_event)
        return;
    THIS = this;
    gf_event(event, "%s", text);
    THIS = caller;
}

static int glupy_declare_options(xlator_t *this, volume_option_t *options)
{
    xlator_t *caller = THIS;
    volume_opt_list_t *list;
    THIS = this;
    list = GF_CALLOC(1, sizeof *list, gf_common_mt_volume_opt_list_t);
    THIS = caller;
    if (!list)
        return -1;
    INIT_LIST_HEAD(&list->list);
    list->given_opt = options;
    list_add_tail(&list->list, &this->volume_options);
    return 0;
}

static void glupy_dump_section(const char *name)
{
    gf_proc_dump_add_section("%s", name);
}

static void glupy_dump_line(const char *key, const char *value)
{
    gf_proc_dump_write((char *)key, "%s", value);
}

/* ---- frames ---- */

static void glupy_fail(xlator_t *this, call_frame_t *frame, int fop, int32_t op_errno)
{
    fail_table[fop](this, frame, op_errno);
}

/* A call stack of the translator's own: root, as the brick itself. */
static call_frame_t *glupy_own_frame(xlator_t *this)
{
    call_frame_t *frame = create_frame(this, this->ctx->pool);
    if (frame) {
        frame->root->groups = frame->root->groups_small;
        set_lk_owner_from_ptr(&frame->root->lk_owner, frame->root);
    }
    return frame;
}

static void glupy_end_own_frame(xlator_t *this, call_frame_t *frame)
{
    xlator_t *caller = THIS;
    THIS = this;
    STACK_DESTROY(frame->root);
    THIS = caller;
}

static void quick_set_this(xlator_t *this)
{
    THIS = this;
}

/* ---- struct access ---- */

static uint32_t quick_iatt_mode(const struct iatt *iatt)
{
    return st_mode_from_ia(iatt->ia_prot, iatt->ia_type);
}

static void quick_iatt_set_mode(struct iatt *iatt, uint32_t mode)
{
    iatt->ia_prot = ia_prot_from_st_mode(mode);
    iatt->ia_type = ia_type_from_st_mode(mode);
}

/* Pointers in GlusterFS 10, arrays in 11. */
static const char *glupy_client_uid(const client_t *client)
{
    return client->client_uid;
}

static const char *quick_pair_key(const data_pair_t *pair)
{
    return pair->key;
}

/* A context in C too, or GlusterFS would not call forget and release. */
static void quick_mark_inode(inode_t *inode, xlator_t *this)
{
    uint64_t one = 1;
    inode_ctx_set0(inode, this, &one);
}

static void quick_set_passes(inode_t *inode, xlator_t *this, int passes)
{
    uint64_t value = passes;
    inode_ctx_set1(inode, this, &value);
}

static int quick_passes(inode_t *inode, xlator_t *this)
{
    return glupy_passes(inode, this);
}

static void quick_mark_fd(fd_t *fd, xlator_t *this)
{
    fd_ctx_set(fd, this, 1);
}

static dict_t *quick_dict_new(void)
{
    return THIS->ctx ? dict_new() : NULL; /* without a graph there are no memory pools */
}

static data_t *quick_data(dict_t *dict, const char *key)
{
    data_t *found = NULL;
    return dict_get_with_ref(dict, (char *)key, &found) ? NULL : found;
}

static void quick_data_unref(data_t *data)
{
    data_unref(data);
}

static void quick_dict_unref(void *dict)
{
    dict_unref(dict);
}

static int quick_dict_has(dict_t *dict, const char *key)
{
    return dict_get(dict, (char *)key) != NULL;
}

/* A dict takes over a value by reference; bytes are copied in, as dict_set_dynptr frees them. */
static int quick_dict_set_bytes(dict_t *dict, const char *key, const void *value, size_t size)
{
    void *copy = GF_MALLOC(size ? size : 1, gf_common_mt_char);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, value, size);
    int result = dict_set_bin(dict, (char *)key, copy, size);
    if (result)
        GF_FREE(copy);
    return result;
}

static int quick_dict_set_string(dict_t *dict, const char *key, const char *value)
{
    return dict_set_dynstr_with_alloc(dict, (char *)key, value);
}

static int quick_dict_set_number(dict_t *dict, const char *key, int64_t value, int bits)
{
    char *k = (char *)key;
    switch (bits) {
        case 8: return dict_set_int8(dict, k, value);
        case 16: return dict_set_int16(dict, k, value);
        case 32: return dict_set_int32(dict, k, value);
        case 64: return dict_set_int64(dict, k, value);
        case -32: return dict_set_uint32(dict, k, value);
        default: return dict_set_uint64(dict, k, value);
    }
}

static int quick_dict_set_iatt(dict_t *dict, const char *key, const struct iatt *value)
{
    struct iatt *copy = GF_MALLOC(sizeof *copy, gf_common_mt_char);
    if (!copy)
        return -ENOMEM;
    *copy = *value;
    int result = dict_set_iatt(dict, (char *)key, copy, false);
    if (result)
        GF_FREE(copy);
    return result;
}

static int quick_dict_set_mdata(dict_t *dict, const char *key, const struct mdata_iatt *value)
{
    struct mdata_iatt *copy = GF_MALLOC(sizeof *copy, gf_common_mt_char);
    if (!copy)
        return -ENOMEM;
    *copy = *value;
    int result = dict_set_mdata(dict, (char *)key, copy, false);
    if (result)
        GF_FREE(copy);
    return result;
}

static int quick_dict_set_uuid(dict_t *dict, const char *key, const unsigned char *value)
{
    unsigned char *copy = GF_MALLOC(16, gf_common_mt_uuid_t);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, value, 16);
    int result = dict_set_gfuuid(dict, (char *)key, copy, false);
    if (result)
        GF_FREE(copy);
    return result;
}

static gf_dirent_t *glupy_dirent_add(gf_dirent_t *head, const char *name)
{
    gf_dirent_t *entry = gf_dirent_for_name(name);
    if (entry)
        list_add_tail(&entry->list, &head->list);
    return entry;
}

static lock_migration_info_t *glupy_locks_new(void)
{
    lock_migration_info_t *head = calloc(1, sizeof *head);
    if (head)
        INIT_LIST_HEAD(&head->list);
    return head;
}

static lock_migration_info_t *glupy_lock_add(lock_migration_info_t *head, const char *client_uid)
{
    lock_migration_info_t *lock = calloc(1, sizeof *lock);
    if (lock) {
        lock->client_uid = glupy_string_keep(client_uid);
        list_add_tail(&lock->list, &head->list);
    }
    return lock;
}

static lock_migration_info_t *glupy_lock_next(lock_migration_info_t *head, lock_migration_info_t *lock)
{
    lock_migration_info_t *next = list_entry(lock->list.next, lock_migration_info_t, list);
    return next == head ? NULL : next;
}

static void quick_xxh64(const unsigned char *data, size_t len, unsigned long long seed, char *xxh64)
{
    gf_xxh64_wrapper(data, len, seed, xxh64);
}

static void glupy_free(void *memory)
{
    GF_FREE(memory);
}

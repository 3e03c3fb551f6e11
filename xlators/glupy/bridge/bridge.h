/* What the generated code of every fop rests on. See glupy/__init__.py for the whole way. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dirent.h>
#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <acl/libacl.h>
#include <sys/acl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <fcntl.h>
#include <unistd.h>

#include <glusterfs/xlator.h>
#include <glusterfs/defaults.h>
#include <glusterfs/globals.h>
#include <glusterfs/statedump.h>
#include <glusterfs/logging.h>

/* One translator instance of a graph: this->private. */
enum glupy_event { ENTERED, PASSED, UNWOUND, EVENTS };
struct glupy_instance {
    void *self; /* cffi's handle of the Python translator */
    struct xlator_fops fops;
    struct xlator_cbks cbks;
    struct xlator_dumpops dumpops;
    _Atomic uint64_t counts[EVENTS];
    char passed[GF_FOP_MAXVALUE]; /* fops that inodes may be marked to pass by: passed_fops */
};

/* Whether a translator has marked an inode for such fops to pass by. Its context in C is two words:
   the first says that there is one in Python, the second is this. */
static inline int glupy_passes(inode_t *inode, xlator_t *this)
{
    uint64_t passes = 0;
    return inode && !inode_ctx_get1(inode, this, &passes) && passes;
}

static inline void glupy_count(xlator_t *this, enum glupy_event event)
{
    struct glupy_instance *instance = this->private;
    if (instance)
        atomic_fetch_add_explicit(&instance->counts[event], 1, memory_order_relaxed);
}

/* What a Python handler says of its fop: ANSWERED leaves the reply for C to unwind once the GIL is
   gone, as an unwind takes long; TAKEN is or will be unwound by Python itself. A negative number is an errno to fail it with. 0, which
   is what cffi returns when Python could not answer, is none of them and fails it with EIO. */
enum glupy_verdict { VERDICT_TAKEN = 1, VERDICT_PASS = 2, VERDICT_ANSWERED = 3 };

/* cffi gives the GIL away around every call into C. A function called quick_* keeps it: it neither
   waits nor takes longer than that would, and whoever gets the GIL in between has to be woken. */
static inline PyThreadState *glupy_give_gil(const char *caller)
{
    static const char quick[] = "_cffi_f_quick_";
    return strncmp(caller, quick, sizeof quick - 1) ? PyEval_SaveThread() : NULL;
}
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS { PyThreadState *_save = glupy_give_gil(__func__);
#define Py_END_ALLOW_THREADS if (_save) PyEval_RestoreThread(_save); }

/* ---- copies that outlive a call ---- */

struct glupy_kept {
    void (*wipe)(struct glupy_kept *);
};

/* Held arguments begin with the caller's credentials: the frame is not read after a wind. The names
   are those of call_stack_t, of which this is the part that handlers see. */
struct glupy_caller {
    uint64_t unique;
    uid_t uid;
    gid_t gid;
    pid_t pid;
    uint16_t ngrps;
    uint32_t *groups;
    gf_lkowner_t *lk_owner;
    client_t *client;
    int32_t op;
    uint32_t flags;
    struct timespec ctime;
};

struct glupy_held {
    struct glupy_kept kept;
    struct glupy_caller root;
};

/* A fop that a handler was asked for, as long as the call lasts. Translators below may change the
   credentials for a while, so they are noted before a wind. */
struct glupy_call {
    struct glupy_instance *instance;
    call_frame_t *frame;
    int32_t verdict;
    struct glupy_caller caller;
    gf_lkowner_t lk_owner;
};

/* Only as much of the owner as there is: it has room for 1 KiB. */
static size_t glupy_owner_size(const gf_lkowner_t *owner)
{
    return offsetof(gf_lkowner_t, data) + owner->len;
}

static void glupy_note_caller(struct glupy_call *call)
{
    call_stack_t *from = call->frame->root;
    call->caller = (struct glupy_caller){.unique = from->unique,
                                         .uid = from->uid,
                                         .gid = from->gid,
                                         .pid = from->pid,
                                         .ngrps = from->groups ? from->ngrps : 0,
                                         .groups = from->groups,
                                         .lk_owner = &call->lk_owner,
                                         .client = from->client,
                                         .op = from->op,
                                         .flags = from->flags,
                                         .ctime = from->ctime};
    memcpy(&call->lk_owner, &from->lk_owner, glupy_owner_size(&from->lk_owner));
}

static void glupy_hold(struct glupy_held *to, const struct glupy_caller *from,
                       void (*wipe)(struct glupy_kept *))
{
    size_t groups = from->ngrps * sizeof *from->groups, owner = glupy_owner_size(from->lk_owner);
    to->kept.wipe = wipe;
    to->root = *from;
    to->root.ngrps = 0;
    to->root.groups = NULL;
    to->root.lk_owner = malloc(owner + groups);
    if (!to->root.lk_owner)
        return;
    memcpy(to->root.lk_owner, from->lk_owner, owner);
    if (groups) {
        to->root.ngrps = from->ngrps;
        to->root.groups = (uint32_t *)((char *)to->root.lk_owner + owner);
        memcpy(to->root.groups, from->groups, groups);
    }
}

static void glupy_drop_held(void *given)
{
    struct glupy_held *held = given;
    held->kept.wipe(&held->kept);
    free(held->root.lk_owner);
    free(held);
}

static char *glupy_string_keep(const char *from)
{
    return from ? strdup(from) : NULL;
}

static void glupy_loc_free(loc_t *loc)
{
    if (!loc)
        return;
    if (loc->inode)
        inode_unref(loc->inode);
    if (loc->parent)
        inode_unref(loc->parent);
    free((char *)loc->path);
    free((char *)loc->name);
    free(loc);
}

/* Not loc_copy(): that one leaves a name without a path pointing into the original. */
static loc_t *glupy_loc_keep(const loc_t *from)
{
    loc_t *to;
    if (!from || !(to = malloc(sizeof *to)))
        return NULL;
    *to = *from;
    to->path = glupy_string_keep(from->path);
    to->name = glupy_string_keep(from->name);
    if (to->inode)
        inode_ref(to->inode);
    if (to->parent)
        inode_ref(to->parent);
    return to;
}

static struct iovec *glupy_vector_keep(const struct iovec *from, int count)
{
    struct iovec *to;
    if (!from || count <= 0 || !(to = malloc(count * sizeof *to)))
        return NULL;
    return memcpy(to, from, count * sizeof *to);
}

static uint8_t *glupy_checksum_keep(const uint8_t *from)
{
    /* protocol/server sends SHA256_DIGEST_LENGTH bytes of whatever the leaf gives it. */
    uint8_t *to;
    if (!from || !(to = malloc(32)))
        return NULL;
    return memcpy(to, from, 32);
}

static gf_dirent_t *glupy_dirents_new(void)
{
    gf_dirent_t *head = calloc(1, sizeof *head);
    if (head)
        INIT_LIST_HEAD(&head->list);
    return head;
}

static void glupy_dirents_free(gf_dirent_t *head)
{
    if (head)
        gf_dirent_free(head);
    free(head);
}

static gf_dirent_t *glupy_dirents_keep(gf_dirent_t *from)
{
    gf_dirent_t *to, *entry, *copy;
    if (!from || !(to = glupy_dirents_new()))
        return NULL;
    list_for_each_entry(entry, &from->list, list)
    {
        if (!(copy = entry_copy(entry)))
            break;
        list_add_tail(&copy->list, &to->list);
    }
    return to;
}

static void glupy_locks_free(lock_migration_info_t *head)
{
    lock_migration_info_t *lock, *next;
    if (!head)
        return;
    list_for_each_entry_safe(lock, next, &head->list, list)
    {
        free(lock->client_uid);
        free(lock);
    }
    free(head);
}

static lock_migration_info_t *glupy_locks_keep(lock_migration_info_t *from)
{
    lock_migration_info_t *to, *lock, *copy;
    if (!from || !(to = calloc(1, sizeof *to)))
        return NULL;
    INIT_LIST_HEAD(&to->list);
    list_for_each_entry(lock, &from->list, list)
    {
        if (!(copy = malloc(sizeof *copy)))
            break;
        copy->flock = lock->flock;
        copy->lk_flags = lock->lk_flags;
        copy->client_uid = glupy_string_keep(lock->client_uid);
        list_add_tail(&copy->list, &to->list);
    }
    return to;
}

/* ---- large stacks ----
   io-threads run fops on 256 KiB and quota's marker on 16 KiB, too little for Python's own
   recursion limit. So Python always runs on a stack of this size, taken from a pool: only what is
   touched of it becomes memory. A stack is not bound to a thread, since a synctask may leave its
   thread in the middle of a handler's wind. */

#define LARGE_STACK ((size_t)16 << 20)
#define ENOUGH_STACK ((size_t)8 << 20)

struct glupy_stack {
    struct glupy_stack *next;
    char *low;
};

static pthread_mutex_t stacks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct glupy_stack *free_stacks;
static __thread char *current_stack;

static struct glupy_stack *glupy_take_stack(void)
{
    struct glupy_stack *stack;
    char *low;
    pthread_mutex_lock(&stacks_lock);
    if ((stack = free_stacks))
        free_stacks = stack->next;
    pthread_mutex_unlock(&stacks_lock);
    if (stack)
        return stack;
    low = mmap(NULL, LARGE_STACK, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (low == MAP_FAILED)
        return NULL;
    mprotect(low, sysconf(_SC_PAGESIZE), PROT_NONE);
    /* The descriptor lies at the very top, above everything that runs there. */
    stack = (struct glupy_stack *)(low + LARGE_STACK - 64);
    stack->low = low;
    return stack;
}

static void glupy_give_stack(struct glupy_stack *stack)
{
    pthread_mutex_lock(&stacks_lock);
    stack->next = free_stacks;
    free_stacks = stack;
    pthread_mutex_unlock(&stacks_lock);
}

#if defined(__x86_64__) && !defined(GLUPY_PORTABLE_STACKS)
/* The frame pointer keeps debuggers' backtraces whole across the switch. */
__attribute__((noinline, optimize("no-omit-frame-pointer"))) static void
glupy_switch_stack(struct glupy_stack *stack, void (*function)(void *), void *data)
{
    void *top = stack;
    __asm__ volatile(
        "movq %%rsp, %%rbx\n\t"
        "movq %[top], %%rsp\n\t"
        "call *%[function]\n\t"
        "movq %%rbx, %%rsp"
        : [top] "+r"(top), [function] "+r"(function), "+D"(data)
        :
        : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2",
          "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
          "xmm13", "xmm14", "xmm15", "memory", "cc");
}
#else
#include <ucontext.h>
struct glupy_switch {
    void (*function)(void *);
    void *data;
};
static void glupy_switched(unsigned high, unsigned low)
{
    struct glupy_switch *call = (void *)(((uintptr_t)high << 32) | low);
    call->function(call->data);
}
static void glupy_switch_stack(struct glupy_stack *stack, void (*function)(void *), void *data)
{
    struct glupy_switch call = {function, data};
    ucontext_t here, there;
    getcontext(&there);
    there.uc_stack.ss_sp = stack->low;
    there.uc_stack.ss_size = (char *)stack - stack->low;
    there.uc_link = &here;
    makecontext(&there, (void (*)(void))glupy_switched, 2, (unsigned)((uintptr_t)&call >> 32),
                (unsigned)(uintptr_t)&call);
    swapcontext(&here, &there);
}
#endif

static void glupy_on_large_stack(void (*function)(void *), void *data)
{
    char *here = __builtin_frame_address(0), *outer = current_stack;
    struct glupy_stack *stack;
    /* Already there (one Python translator over another), with room left? */
    if (outer && here > outer + ENOUGH_STACK && here < outer + LARGE_STACK) {
        function(data);
    } else if ((stack = glupy_take_stack())) {
        current_stack = stack->low;
        glupy_switch_stack(stack, function, data);
        current_stack = outer;
        glupy_give_stack(stack);
    } else {
        function(data);
    }
}

/* ---- waiting for a reply ----
   The reply may come inside the wind: then all goes on as if there had been none. Else what is to
   outlive the call is kept, and whoever is second of the two, the callback or quick_wait, resumes
   the coroutine. */

enum glupy_wait { WINDING, WAITING, REPLIED };
struct glupy_reply {
    struct glupy_kept kept;
    uintptr_t waiter; /* who is resumed: a key that Python chose */
    int32_t op_ret;
    int32_t op_errno;
    _Atomic int state;
};

static void python_resume(uintptr_t waiter, struct glupy_reply *reply);

static void glupy_expect(struct glupy_reply *reply, uintptr_t waiter)
{
    reply->waiter = waiter;
    atomic_init(&reply->state, WINDING);
}

static __thread struct glupy_reply *unreplied;

/* Say whether the reply is there; if not, quick_unreplied() and quick_wait() come next. No reply and
   nothing unreplied: there was no memory to wind with. */
static int glupy_has_reply(struct glupy_reply *reply)
{
    if (atomic_load(&reply->state) == REPLIED)
        return 1;
    unreplied = reply;
    return 0;
}

static struct glupy_reply *quick_unreplied(void)
{
    return unreplied;
}

/* From here on the reply resumes the waiter, on any thread; 1 if it came meanwhile and does not. */
static int quick_wait(struct glupy_reply *reply)
{
    return atomic_exchange(&reply->state, WAITING) == REPLIED;
}

static void glupy_resume_now(void *reply)
{
    python_resume(((struct glupy_reply *)reply)->waiter, reply);
}

static void glupy_replied(struct glupy_reply *reply, xlator_t *this)
{
    (void)this;
    if (atomic_exchange(&reply->state, REPLIED) == WAITING)
        glupy_on_large_stack(glupy_resume_now, reply);
}

static void glupy_drop_reply(void *given)
{
    struct glupy_reply *reply = given;
    reply->kept.wipe(&reply->kept);
    free(reply);
}

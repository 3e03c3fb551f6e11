/* What the tests see of ends.c. */

typedef struct _xlator xlator_t;
typedef struct _inode_table inode_table_t;
typedef struct _inode inode_t;
typedef struct _fd fd_t;
struct xlator_fops;

struct text { char *bytes; size_t used; ...; };
enum reply_mode { INSIDE, LATE, BEFORE_RETURN };
struct run { int fop; int below; int mode; int fails; int near_nulls; int far_nulls; int groups; int delay_ms; size_t large;
             uint64_t seed; size_t stack; struct text sent; struct text received;
             struct text replied; struct text answered; struct text example;
             struct text faults; int entered;
             int callbacks; int wound; int inside; int same_thread; int unheld; ...; };

struct run *run_new(xlator_t *near_xl, xlator_t *subject, xlator_t *far_xl, inode_table_t *table);
void run_wind(struct run *run);
int run_wait(struct run *run, int ms);
void run_references(struct run *run, struct text *text);
void run_show(struct run *run);
void run_forget(struct run *run);
void text_free(struct text *text);
void run_free(struct run *run);
struct xlator_fops *ends_put_far(xlator_t *this);
void ends_restore(xlator_t *this, struct xlator_fops *fops);
inode_table_t *ends_table(xlator_t *this);
void ends_drop_table(inode_table_t *table);
int64_t ends_frames(xlator_t *this);
void *ends_fop(xlator_t *this, int number);
void *ends_default_fop(int number);

/* GlusterFS's own, by which the translators of a graph are told. */
void inode_ctx_merge(fd_t *fd, inode_t *inode, inode_t *linked_inode);
int inode_invalidate(inode_t *inode);
void fd_close(fd_t *fd);

"""Names and numbers that GlusterFS gives a storage translator: xattrs, xdata keys, pids.

Sources: libglusterfs/src/glusterfs/glusterfs.h, common-utils.h, dht-common.h; v10.3.
"""

from __future__ import annotations

# ---- xattrs on disk ----
GFID = "trusted.gfid"
VOLUME_ID = "trusted.glusterfs.volume-id"
MDATA = "trusted.glusterfs.mdata"
GFID2PATH_PREFIX = "trusted.gfid2path."
PGFID_PREFIX = "trusted.pgfid."
PROTECT_WRITES = "trusted.glusterfs.protect.writes"
DHT_LINKTO = "trusted.glusterfs.dht.linkto"
ACL_ACCESS = "system.posix_acl_access"
ACL_DEFAULT = "system.posix_acl_default"
BD = "user.glusterfs.bd"
"""Its file is mapped to a block device: user/pybd, and the BD translator before release 6."""
BITROT_VERSION = "trusted.bit-rot.version"
BITROT_SIGNATURE = "trusted.bit-rot.signature"
CS_SIZE = "trusted.glusterfs.cs.object_size"
CS_BLOCK_SIZE = "trusted.glusterfs.cs.block_size"
CS_BLOCKS = "trusted.glusterfs.cs.num_blocks"
CS_REMOTE = "trusted.glusterfs.cs.remote"
CS_DOWNLOADING = "trusted.glusterfs.cs.downloading"
NAMESPACES = ("user.", "trusted.", "security.", "system.")

# ---- asked for in xdata ----
GFID_REQ = "gfid-req"
INTERNAL_FOP = "glusterfs-internal-fop"
FORCE_REPLACE = "force-replace"
PREOP_PARENT = "glusterfs.preop.parent.key"
PREOP_FAILED = "glusterfs.preop.check.failed"
GFIDLESS_LOOKUP = "gfidless-lookup"
UNLINKED_LOOKUP = "unlinked-lookup"
CLEAN_WRITE_PROTECTION = "glusterfs.clean.writexattr"
AVOID_OVERWRITE = "glusterfs.avoid.overwrite"
UPDATE_ATOMIC = "glusterfs.write-update-atomic"
WRITE_IS_APPEND = "glusterfs.write-is-append"
DURABLE_OP = "trusted.glusterfs.durable-op"
BATCH_FSYNC = "batch-fsync"
CS_STATUS = "trusted.glusterfs.cs.status"
CS_REPAIR = "trusted.glusterfs.cs.repair"
CS_UPLOADED = "trusted.glusterfs.csou.complete"
SYNC_BACKEND_XATTRS = "sync_backend_xattrs"
SET_MDATA = "set-ctime-mdata"
CONTENT = "glusterfs.content"
OPEN_FD_COUNT = "glusterfs.open-fd-count"
ACTIVE_FD_COUNT = "glusterfs.open-active-fd-count"
LIST_XATTR = "list-xattr"
GET_SIZE = "get-size"
GET_LINK_COUNT = "get-link-count"
REQUEST_LINK_COUNT = "gf_request_link_count"
RESPONSE_LINK_COUNT = "gf_response_link_count"
GET_BLOCK_COUNT = "gf_get_file_block_count"
ANCESTRY_DENTRY = "glusterfs.ancestry.dentry"
SKIP_DIRECTORIES = "readdir-filter-directories"
UNLINK_NOT_OPEN = "dont-unlink-for-open-fd"
UNLINK_ONLY_LINKTO = "unlink-only-if-dht-linkto-file"
DHT_IATT = "dht-get-iatt-in-xattr"
DHT_MODE = "dht-get-mode-in-xattr"
PRESTAT = "virt-gf-prestat"
POSTSTAT = "virt-gf-poststat"
CHECK_ZERO_FILLED = "check-zero-filled"
BUF_HAS_ZEROES = "buf-has-zeroes"
FIPS_RCHECKSUM = "fips-mode-rchecksum"

# ---- read by name, not on disk ----
PATHINFO = ("trusted.glusterfs.pathinfo", "glusterfs.pathinfo")
NODE_UUID = "trusted.glusterfs.node-uuid"
INODE_PATH = "glusterfs.gfid2path"
GFID_TO_PATH = "glusterfs.gfidtopath"
REAL_FILENAME = "glusterfs.get_real_filename:"
ANCESTRY_PATH = "glusterfs.ancestry.path"
ACL_TEXT = "glusterfs.posix.acl"
DEFAULT_ACL_TEXT = "glusterfs.posix.default_acl"
GET_SIGNATURE = "trusted.glusterfs.get-signature"
BITROT_SIZE = "trusted.glusterfs.bit-rot.size"
IOSTATS_DUMP = "trusted.io-stats-dump"

# ---- who asks (frame.pid); below 0 are GlusterFS's own clients ----
PID_GSYNCD = -1
PID_REBALANCE = -3
PID_SELF_HEALD = -6

HIDDEN = ".glusterfs"

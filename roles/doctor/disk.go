package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
)

// disk looks at the data directory, or at where it will be made.
func (h host) disk(ctx context.Context) []Check {
	dir := h.config.Broker.DataDir
	at, err := standing(dir)
	if err != nil {
		return []Check{ill("data directory", Fail, fmt.Sprintf("%s cannot be looked at: %v", dir, err),
			"the node keeps everything there", "name another with --data-dir, or make this one readable")}
	}
	checks := []Check{h.directory(dir, at)}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return append(checks, skipped("file system", "%s: %v", at, err), skipped("free disk", "%s: %v", at, err))
	}
	checks = append(checks, judgeFileSystem(at, uint32(st.Type)))
	checks = append(checks, h.judgeRoom(at, int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize, int64(st.Ffree), int64(st.Files), h.heldByLog(dir)))
	if checks[0].Verdict == Fail {
		return append(checks, skipped("sync latency", "nothing can be written to %s", at))
	}
	return append(checks, h.timeSyncs(ctx, at), h.ring(at))
}

// standing is dir, or the nearest directory above it that is there.
func standing(dir string) (string, error) {
	at, err := filepath.Abs(dir)
	for ; err == nil; at = filepath.Dir(at) {
		var info fs.FileInfo
		if info, err = os.Stat(at); err == nil && !info.IsDir() {
			return "", fmt.Errorf("%s is a file", at)
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return at, err
		}
		err = nil
	}
	return "", err
}

// directory tells whether the node may write there, and whether one does.
func (h host) directory(dir, at string) Check {
	const name = "data directory"
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return ill(name, Fail, fmt.Sprintf("%s is not writable: %v", at, err), "the node keeps everything there",
			fmt.Sprintf("chown %s to the user that rustmq runs as (uid %d asks), or name another with --data-dir", at, os.Getuid()))
	}
	if held := h.holder(dir); held != "" {
		return well(name, "%s, in use by a node that runs (%s)", dir, held)
	}
	if filepath.Clean(dir) == at || sameDirectory(dir, at) {
		return well(name, "%s is there and writable", dir)
	}
	return well(name, "%s will be made in %s", dir, at)
}

func sameDirectory(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// holder is who holds the lock of a data directory; "": nobody. It is not tried: a node that
// starts in that moment would find it taken.
func (h host) holder(dir string) string {
	name := filepath.Join(dir, "lock")
	var st unix.Stat_t
	if unix.Stat(name, &st) != nil {
		return ""
	}
	for line := range strings.Lines(h.read("proc/locks")) {
		// 1: FLOCK  ADVISORY  WRITE 4711 08:01:1234567 0 EOF
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || !strings.HasSuffix(fields[5], ":"+strconv.FormatUint(st.Ino, 10)) {
			continue
		}
		if pid, err := os.ReadFile(name); err == nil { // as the holder knows itself
			return "pid " + strings.TrimSpace(string(pid))
		}
		return "pid " + fields[4]
	}
	return ""
}

// fileSystems are those that are known by their magic number.
var fileSystems = map[uint32]struct {
	name, why string
	verdict   Verdict
}{
	unix.EXT4_SUPER_MAGIC:      {name: "ext4", verdict: OK}, // ext2 and ext3 have the same
	unix.XFS_SUPER_MAGIC:       {name: "xfs", verdict: OK},
	unix.BTRFS_SUPER_MAGIC:     {"btrfs", "it copies on write: each sync writes its trees too", Warn},
	0x2fc12fc1:                 {name: "zfs", verdict: OK},
	unix.F2FS_SUPER_MAGIC:      {name: "f2fs", verdict: OK},
	unix.TMPFS_MAGIC:           {"tmpfs", "it is memory: a power cut or a reboot takes what was acked", Fail},
	unix.RAMFS_MAGIC:           {"ramfs", "it is memory: a power cut or a reboot takes what was acked", Fail},
	unix.OVERLAYFS_SUPER_MAGIC: {"overlayfs", "it is the layer of a container, and goes with it: what was acked and not uploaded goes too", Warn},
	unix.NFS_SUPER_MAGIC:       {"nfs", "locks and syncs are its server's word, and each takes a round trip; the bucket may lie there", Warn},
	unix.SMB_SUPER_MAGIC:       {"smb", "locks and syncs are its server's word", Fail},
	unix.SMB2_SUPER_MAGIC:      {"smb2", "locks and syncs are its server's word", Fail},
	unix.CIFS_SUPER_MAGIC:      {"cifs", "locks and syncs are its server's word", Fail},
	unix.FUSE_SUPER_MAGIC:      {"fuse", "what a sync means is for the program behind it to say", Warn},
	unix.CEPH_SUPER_MAGIC:      {"ceph", "each sync takes a round trip", Warn},
	unix.V9FS_MAGIC:            {"9p", "it is a folder of the machine outside: what a sync means is for that to say", Warn},
	unix.SQUASHFS_MAGIC:        {"squashfs", "nothing can be written to it", Fail},
	unix.MSDOS_SUPER_MAGIC:     {"vfat", "a power cut may damage it, and files have at most 4 GiB", Fail},
}

func judgeFileSystem(at string, magic uint32) Check {
	const name = "file system"
	kind, known := fileSystems[magic]
	switch {
	case !known:
		return skipped(name, "%s is of a kind that is not known here (0x%x): see whether its fdatasync survives a power cut", at, magic)
	case kind.verdict == OK:
		return well(name, "%s is %s", at, kind.name)
	}
	do := "name a --data-dir on a local ext4 or xfs"
	switch magic {
	case unix.OVERLAYFS_SUPER_MAGIC:
		do = "mount a volume, and name a --data-dir in it"
	case unix.BTRFS_SUPER_MAGIC:
		do = "chattr +C the data directory while it is empty, or " + do
	}
	return ill(name, kind.verdict, fmt.Sprintf("%s is %s", at, kind.name), kind.why, do)
}

// heldByLog is how many bytes a log that is there has.
func (h host) heldByLog(dir string) (held int64) {
	files, err := os.ReadDir(filepath.Join(dir, "wal"))
	if err != nil {
		return 0
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			held += info.Size()
		}
	}
	return held
}

// judgeRoom compares what is free with what the log will take: half of it, at most, what
// it has counted as free (roles: wal.go).
func (h host) judgeRoom(at string, free, total, inodes, allInodes, held int64) Check {
	const name = "free disk"
	found := fmt.Sprintf("%s of %s free at %s", bytes(free), bytes(total), at)
	wal := h.config.WAL
	least := 8 * int64(wal.SegmentSize)
	switch {
	case !h.has("broker"):
		if free < 1<<30 {
			return ill(name, Fail, found, "the metadata log and its snapshots need some", "make room, or name another --data-dir")
		}
		return well(name, "%s", found)
	case held == 0 && free < least:
		return ill(name, Fail, found, fmt.Sprintf("a log has eight segments at least, %s", bytes(least)),
			"make room, name another --data-dir, or set wal.segment_size")
	case allInodes > 0 && inodes < 10_000:
		return ill(name, Fail, fmt.Sprintf("%s, and %d inodes", found, inodes), "files cannot be made any more, however much room there is", "remove files, or make the file system anew with more inodes")
	case int64(wal.Capacity) > (held+free)/2:
		return ill(name, Warn, found, fmt.Sprintf("wal.capacity is %v, and is cut to half of what is free: producers are held back sooner while the bucket is away", wal.Capacity),
			fmt.Sprintf("give the data directory a disk of %s, or set wal.capacity", bytes(2*int64(wal.Capacity))))
	}
	return well(name, "%s; the log takes %v at most", found, wal.Capacity)
}

// timeSyncs writes and syncs in a file of its own.
func (h host) timeSyncs(ctx context.Context, at string) Check {
	const name = "sync latency"
	took, err := syncsIn(ctx, at)
	if err != nil {
		return ill(name, Fail, fmt.Sprintf("a sync in %s failed: %v", at, err), "an ack means that the record is on disk", "look into the kernel's log (dmesg) for the device")
	}
	if len(took) < 3 {
		return skipped(name, "it was interrupted")
	}
	return judgeSyncs(took, time.Duration(h.config.Controller.Raft.ElectionTimeout))
}

// syncsIn times syncs of one block each, over what is there: as the log does it, whose
// segments are whole before they are used.
func syncsIn(ctx context.Context, at string) (took []time.Duration, err error) {
	f, err := os.CreateTemp(at, ".rustmq-doctor-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, syncSize)
	for i := range block {
		block[i] = byte(i * 31) // a device that compresses is not to find nothing
	}
	for i := range syncs {
		if _, err := f.WriteAt(block, int64(i)*syncSize); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	for began, i := time.Now(), 0; i < syncs && ctx.Err() == nil && time.Since(began) < syncTime; i++ {
		block[0]++
		start := time.Now()
		if _, err := f.WriteAt(block, int64(i)*syncSize); err != nil {
			return took, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return took, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

// judgeSyncs judges times of syncs, of which there is one at least. A controller that cannot
// sync within an election timeout loses its lead each time.
func judgeSyncs(took []time.Duration, election time.Duration) Check {
	const name = "sync latency"
	slices.Sort(took)
	half, high := took[len(took)/2], took[len(took)*99/100]
	found := fmt.Sprintf("%v at the median, %v at the 99th percentile, of %d writes of 4 KiB", round(half), round(high), len(took))
	const do = "use a disk whose write cache outlives the power (NVMe or SSD of servers), and no network or burstable volume"
	switch {
	case half < fastSync:
		return ill(name, Warn, found, "no device confirms a write so fast: the sync does not reach it, and a power cut takes what was acked",
			"look for nobarrier, eatmydata, a volume whose cache is unsafe (cache=unsafe), or memory in place of a disk")
	case high > election:
		return ill(name, Fail, found, fmt.Sprintf("a controller that syncs longer than controller.raft.election_timeout, %v, is deposed each time", election), do)
	case half > slowSync:
		return ill(name, Warn, found, "every ack of acks=all waits for one: latency is that of this disk, at best", do)
	}
	return well(name, "%s", found)
}

func round(d time.Duration) time.Duration {
	switch {
	case d > 10*time.Millisecond:
		return d.Round(time.Millisecond / 10)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

// ring tells whether wal.io can be as it is set.
func (h host) ring(at string) Check {
	const name = "wal.io"
	var mode disk.IOMode
	if err := mode.UnmarshalText([]byte(h.config.WAL.IO)); err != nil || mode != disk.IOUring {
		return well(name, "%s", h.config.WAL.IO)
	}
	tree, err := disk.OpenOSWith(at, disk.OSOptions{IO: mode})
	if err == nil {
		_, err = tree.IO()
	}
	if err != nil {
		return ill(name, Warn, fmt.Sprintf("io_uring is not to be had: %v", err), "the log is written as with wal.io = auto, which measures about the same",
			"set wal.io = auto, or let the process use io_uring (kernel.io_uring_disabled, seccomp profile of the container)")
	}
	return well(name, "io_uring")
}

package roles

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// life is one start of a node as far as its log's identity goes, with a log that
// has a segment afterwards.
func life(fs disk.FS, accept string) error {
	id, err := loadIdentity(fs, 1)
	if err != nil {
		return err
	}
	if err := id.checkWAL(fs, accept); err != nil {
		return err
	}
	if err := fs.MkdirAll(walDir); err != nil {
		return err
	}
	segments, err := hasSegments(fs)
	if err != nil {
		return err
	}
	if !segments {
		if err := disk.WriteFileAtomic(fs, walDir+"/segment-000001", []byte("frames")); err != nil {
			return err
		}
	}
	return id.keepWALID(fs)
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unmount takes the log away, and returns how to bring it back.
func unmount(t *testing.T, fs disk.FS) (mount func()) {
	t.Helper()
	names, err := fs.List(walDir)
	if err != nil {
		t.Fatal(err)
	}
	was := map[string][]byte{}
	for _, name := range names {
		raw, err := disk.ReadFile(fs, walDir+"/"+name)
		if err != nil {
			t.Fatal(err)
		}
		was[name] = raw
		if err := fs.Remove(walDir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for name, raw := range was {
			if err := disk.WriteFileAtomic(fs, walDir+"/"+name, raw); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func wantLost(t *testing.T, err error, words string) *LostWALError {
	t.Helper()
	lost, is := errors.AsType[*LostWALError](err)
	if !is || !strings.Contains(err.Error(), words) {
		t.Fatalf("%v, want a lost log that %s", err, words)
	}
	return lost
}

// TestLostWALIsRefused: a log that is not there is not an empty one. Who accepts
// that names the log that is given up, and when that comes back it is refused: a
// new one has been in its place.
func TestLostWALIsRefused(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	for range 2 {
		noError(t, life(fs, ""))
	}
	mount := unmount(t, fs)
	lost := wantLost(t, life(fs, ""), "is empty")
	wantLost(t, life(fs, strings.Repeat("0", 32)), "is empty")
	mount()
	noError(t, life(fs, lost.Want)) // it was only away
	mount = unmount(t, fs)
	noError(t, life(fs, lost.Want))
	noError(t, life(fs, lost.Want)) // names another by now
	unmountNew := unmount(t, fs)
	mount()
	wantLost(t, life(fs, ""), "is log "+lost.Want)
	wantLost(t, life(fs, lost.Want), "is log "+lost.Want)
	unmount(t, fs)
	unmountNew()
	noError(t, life(fs, ""))
}

// TestLogWithoutID: directories from before logs had ids go on, and so does one
// whose process was killed before both names were written; an old copy of a log in
// the place of a newer one is refused.
func TestLogWithoutID(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	id, err := loadIdentity(fs, 1)
	noError(t, err)
	noError(t, fs.MkdirAll(walDir))
	noError(t, disk.WriteFileAtomic(fs, walDir+"/segment-000001", []byte("frames")))
	noError(t, life(fs, ""))
	noError(t, id.save(fs)) // as it was: the process was killed in between
	noError(t, life(fs, ""))
	was, err := readWALID(fs)
	noError(t, err)
	if id, err = loadIdentity(fs, 1); err != nil || id.WALID == "" || id.WALID != was {
		t.Fatalf("%+v, %v; the log is %q", id, err, was)
	}
	noError(t, fs.Remove(walIDFile))
	wantLost(t, life(fs, ""), fmt.Sprintf(`write {"version":1,"id":%q} to wal/id`, id.WALID))
	wantLost(t, life(fs, id.WALID), "move this one away")
	noError(t, disk.WriteFileAtomic(fs, walIDFile, []byte("{")))
	if err := life(fs, id.WALID); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("a damaged id: %v", err)
	}
	// What the error says is to be written ends it.
	if err := life(fs, ""); err == nil || !strings.Contains(err.Error(), `{"version":1,"id":"ID"}`) {
		t.Fatalf("a damaged id: %v", err)
	}
	noError(t, disk.WriteFileAtomic(fs, walIDFile, []byte(`{"version":1,"id":"`+id.WALID+`"}`)))
	noError(t, life(fs, ""))
}

// TestAcceptingSurvivesKills stops the acceptance of a loss before each call of the
// disk: started again with the same words it goes on.
func TestAcceptingSurvivesKills(t *testing.T) {
	base := disk.NewMem(disk.MemOptions{})
	noError(t, life(base, ""))
	unmount(t, base)
	lost := wantLost(t, life(base, ""), "is empty")
	for k := 1; ; k++ {
		fs := base.Clone()
		err := life(disk.NewFaulty(fs, disk.Rule{From: k, Err: errors.New("killed")}), lost.Want)
		if again := life(fs, lost.Want); again != nil {
			t.Fatalf("killed before call %d (%v): %v", k, err, again)
		}
		noError(t, life(fs, ""))
		if err == nil {
			break
		}
	}
}

// TestWALIsCutToTheDisk: to half of what is free but for the log, also after
// restarts, and its reserve with it.
func TestWALIsCutToTheDisk(t *testing.T) {
	const gib, mib = 1 << 30, 1 << 20
	c := configs.WAL{Capacity: 100 * gib, Reserve: 10 * gib, SegmentSize: 32 * mib}
	for _, test := range []struct{ held, free, capacity, reserve int64 }{
		{0, 400 * gib, 100 * gib, 10 * gib},
		{0, 18 * gib, 9 * gib, 9*gib/2 - 32*mib},
		{9 * gib, 9 * gib, 9 * gib, 9*gib/2 - 32*mib}, // the same disk once the log has filled
		{9 * gib, 1 * gib, 9 * gib, 9*gib/2 - 32*mib}, // something else has filled it
		{0, 0, 256 * mib, 96 * mib},
	} {
		capacity, reserve := cutWAL(c, test.held, test.free)
		if capacity != test.capacity || reserve != test.reserve {
			t.Errorf("%d held, %d free: %d and %d, want %d and %d", test.held, test.free, capacity, reserve, test.capacity, test.reserve)
		}
	}
	// Where not even the least fits, it is not begun; what is there goes on.
	for _, test := range []struct {
		held, free int64
		fits       bool
	}{{0, 200 * mib, false}, {0, 256 * mib, true}, {0, 18 * gib, true}, {1, 0, true}, {0, 0, false}} {
		capacity, _ := cutWAL(c, test.held, test.free)
		if err := fitsWAL(c, test.held, test.free, capacity); (err == nil) != test.fits {
			t.Errorf("%d held, %d free: %v", test.held, test.free, err)
		}
	}
}

// One of several nodes whose metadata log is damaged comes back by the others, with the log of its
// partitions.
func TestDamagedMetadataLogOfSeveral(t *testing.T) {
	n := &Node{config: &configs.Config{}, peers: &peers{}}
	n.config.Broker.ID, n.config.Broker.DataDir = 3, "d3"
	says := n.raftRemedy(fmt.Errorf("open: %w", &wal.CorruptionError{}))
	if !strings.Contains(says, "recover --join --node-id 3 --data-dir d3") || !strings.Contains(says, "controllers remove 3` and `add 3`") {
		t.Error(says)
	}
	if says := n.raftRemedy(errors.New("another error")); says != "" {
		t.Error(says)
	}
}

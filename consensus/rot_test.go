package consensus

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// flipIn changes a bit of the byte where a text lies in one of the files of a directory, and
// returns which file and byte that is.
func flipIn(t *testing.T, fs disk.FS, dir, suffix, text string) (file string, at int64) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(names) // of snapshots, the newest
	for _, name := range names {
		file := dir + "/" + name
		all, err := disk.ReadFile(fs, file)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(all, []byte(text))
		if at < 0 || !strings.HasSuffix(name, suffix) {
			continue
		}
		f, err := fs.Open(file)
		if err == nil {
			err = errors.Join(f.WriteSync([][]byte{{all[at] ^ 1}}, int64(at)), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return file, int64(at)
	}
	t.Fatalf("%q is in no file of %s", text, dir)
	return "", 0
}

// A member whose log or newest snapshot rotted does not start, however often, and says what
// is damaged; the others go on, and who takes its place comes to have what they have.
func TestAMemberThatRotsIsRefusedAndReplaced(t *testing.T) {
	for what, rot := range map[string]func(*testing.T, disk.FS) func(error) bool{
		"log": func(t *testing.T, fs disk.FS) func(error) bool {
			file, at := flipIn(t, fs, "raft", "", "39/50")
			return func(err error) bool {
				damaged, is := errors.AsType[*wal.CorruptionError](err)
				return is && damaged.File == file && damaged.Offset <= at && at < damaged.Offset+128
			}
		},
		"snapshot": func(t *testing.T, fs disk.FS) func(error) bool {
			file, _ := flipIn(t, fs, "snapshots", snapshotSuffix, "5/50")
			return func(err error) bool {
				damaged, is := errors.AsType[*CorruptionError](err)
				return is && damaged.File == file && strings.Contains(damaged.Reason, "bytes from 16 to")
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1, 2, 3)
				defer c.close()
				c.fill()
				c.agree()
				c.stop(3)
				named := rot(t, c.fs[3])
				for range 2 {
					if err := c.open(t.Context(), 3); err == nil || !named(err) {
						t.Fatalf("open: %v", err)
					}
				}
				c.propose(c.leader(), "meanwhile")
				c.wipe(3)
				c.change(Change{Remove, Member{ID: 3}})
				c.change(Change{AddLearner, c.member(3)})
				c.start(3)
				c.change(Change{Promote, Member{ID: 3}})
				if got := c.voters(); !slices.Equal(got, []uint64{1, 2, 3}) {
					t.Errorf("voters %v", got)
				}
				c.propose(c.leader(), "behind it")
				c.agree()
			})
		})
	}
}

// A leader whose newest snapshot rotted while it ran says so, and takes another: a member that
// lacks more than the log has comes to have all.
func TestALeaderWhoseSnapshotRotsTakesAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2, 3)
		defer c.close()
		away := c.leader().opt.NodeID%3 + 1
		c.propose(c.leader(), "first")
		c.stop(away)
		c.fill()
		leads := c.leader().opt.NodeID
		files := snapshots{fs: c.fs[leads], dir: "snapshots"}
		before, err := files.newest()
		if err != nil {
			t.Fatal(err)
		}
		file, _ := flipIn(t, c.fs[leads], "snapshots", snapshotSuffix, "RMQSNAP")
		if file != "snapshots/"+snapshotName(before.index, before.term) {
			t.Fatalf("%s rots, and is not the newest", file)
		}
		c.start(away)
		c.agree()
		if after, err := files.newest(); err != nil || after.index < before.index {
			t.Errorf("%+v, %v", after, err)
		}
	})
}

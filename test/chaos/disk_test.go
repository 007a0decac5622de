//go:build chaos

package chaos

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage/disk"
)

const block = 4096

// writer fills files block by block and says each block that is durable, until
// the disk fails. A file of eight blocks is followed by the next; one name in
// two is moved to its place when the file is full.
func writer(dir, mode string) error {
	var o disk.OSOptions
	if err := o.IO.UnmarshalText([]byte(mode)); err != nil {
		return err
	}
	fsys, err := disk.OpenOSWith(dir, o)
	if err != nil {
		return err
	}
	if got, why := fsys.IO(); got != o.IO {
		return fmt.Errorf("io mode %v: %w", got, why)
	}
	if err := fsys.MkdirAll("made"); err != nil {
		return err
	}
	loose, err := fsys.Create("unsynced")
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		name := fmt.Sprintf("made/%06d", n)
		f, err := fsys.Create(name)
		if err != nil {
			return err
		}
		if err := fsys.SyncDir("made"); err != nil {
			return err
		}
		for i := range 8 {
			buf := pattern(n, i)
			if err := f.WriteSync([][]byte{buf[:1000], buf[1000:]}, int64(i*block)); err != nil {
				return err
			}
			fmt.Println("block", n, i)
			if _, err := loose.WriteAt(buf, int64(i*block)); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
		if n%2 == 0 {
			continue
		}
		if err := fsys.Rename(name, name+".full"); err != nil {
			return err
		}
		if err := fsys.SyncDir("made"); err != nil {
			return err
		}
		fmt.Println("moved", n, 0)
	}
}

func pattern(file, i int) []byte {
	buf := make([]byte, block)
	rng := rand.New(rand.NewPCG(uint64(file), uint64(i)))
	for at := 0; at < block; at += 8 {
		binary.LittleEndian.PutUint64(buf[at:], rng.Uint64())
	}
	return buf
}

func TestSyncedBytesSurvivePowerCut(t *testing.T) {
	for _, mode := range []disk.IOMode{disk.Pwrite, disk.IOUring} {
		t.Run(mode.String(), func(t *testing.T) {
			rng := newRand(t)
			v := newVolume(t, 256<<20)
			blocks, lost := 0, 0
			for range 5 {
				n, gone := cutWriter(t, v, mode, time.Duration(100+rng.IntN(200))*time.Millisecond)
				blocks += n
				lost += gone
			}
			t.Logf("5 cuts: %d synced blocks are there, %d of 5 unsynced files are gone", blocks, lost)
			if lost == 0 {
				t.Fatal("no cut lost what was not synced: these are no power cuts")
			}
		})
	}
}

// cutWriter cuts a writer's power and returns how many blocks it had said, all
// of which are there, and 1 if what it had not synced is gone.
func cutWriter(t *testing.T, v *volume, mode disk.IOMode, after time.Duration) (blocks, lost int) {
	t.Helper()
	dir, err := os.MkdirTemp(v.dir, "life")
	must(t, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CHAOS_WRITER="+dir, "CHAOS_IO="+mode.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	cut := make(chan error, 1)
	type said struct {
		what    string
		file, i int
	}
	var all []said
	var cutting atomic.Bool
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var s said
		if _, err := fmt.Sscan(lines.Text(), &s.what, &s.file, &s.i); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if len(all) == 0 {
			time.AfterFunc(after, func() {
				cutting.Store(true)
				cut <- v.cut()
			})
		}
		// Once the cut has begun, the kernel may report a flush as done that finds
		// the journal shut: no program sees that of a real one.
		if !cutting.Load() {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		t.Fatalf("the writer wrote nothing: %s", stderr.String())
	}
	must(t, <-cut) // the writer ends by the error that the cut gives it
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	must(t, v.powerUp())
	moved := map[int]bool{}
	for _, s := range all {
		if s.what == "moved" {
			moved[s.file] = true
		}
	}
	for _, s := range all {
		if s.what != "block" {
			continue
		}
		blocks++
		base := filepath.Join(dir, fmt.Sprintf("made/%06d", s.file))
		f, err := os.Open(base + ".full")
		if errors.Is(err, os.ErrNotExist) && !moved[s.file] {
			f, err = os.Open(base)
		}
		must(t, err)
		got := make([]byte, block)
		_, err = f.ReadAt(got, int64(s.i*block))
		must(t, err)
		must(t, f.Close())
		if !bytes.Equal(got, pattern(s.file, s.i)) {
			t.Fatalf("block %d of file %d is not what was synced", s.i, s.file)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "unsynced")); err != nil || len(bytes.Trim(b, "\x00")) == 0 {
		lost = 1
	}
	return blocks, lost
}

//go:build chaos

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/test/seeded"
)

func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seeded.Seed(t), 1))
}

// TestMain runs the tests in a mount and a network namespace of their own: however they
// end, the mounts and their loop devices, bridges and addresses end with them.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CHAOS_WRITER"); dir != "" {
		if err := writer(dir, os.Getenv("CHAOS_IO")); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	if os.Geteuid() == 0 && os.Getenv("CHAOS_NAMESPACE") == "" {
		runtime.LockOSThread() // Pdeathsig goes by the thread
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), "CHAOS_NAMESPACE=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		err := cmd.Run()
		if exit := (&exec.ExitError{}); errors.As(err, &exit) {
			os.Exit(max(1, exit.ExitCode()))
		}
		if err == nil {
			return
		}
		fmt.Fprintf(os.Stderr, "no namespaces (%v): mounts may stay behind\n", err)
	}
	if os.Getenv("CHAOS_NAMESPACE") != "" {
		if err := loopback(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// unavailable ends a test that cannot run here, which CI does not accept.
func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s, and CI is set", why)
	}
	t.Skip(why)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soak is how long a test goes on at least; 0: as long as it takes by itself.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SOAK")
	if text == "" {
		return 0
	}
	minutes, err := strconv.Atoi(text)
	must(t, err)
	return time.Duration(minutes) * time.Minute / 2 // tests take it in turns, eight at a time
}

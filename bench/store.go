package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// s3Server is an S3 server of its own, versitygw (scripts/deps.sh), with one bucket. It
// keeps objects in memory where the machine has a file system for that, so that the
// disk is the log's alone, and runs after everything else, as if it were another
// machine.
type s3Server struct {
	*process
	root string // the bucket's objects are files below it
}

// What the server and its clients know each other by.
const (
	s3Bucket = "bench"
	s3Region = "us-east-1"
	s3Key    = "bench"
	s3Secret = "bench-secret"
)

// s3Env is the environment of a client of it.
func s3Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s3Key, "AWS_SECRET_ACCESS_KEY=" + s3Secret, "AWS_EC2_METADATA_DISABLED=true"}
}

// s3URL is the bucket's, at an address: the server's, or that of what stands before it.
func s3URL(addr string) string {
	return "s3://" + s3Bucket + "?region=" + s3Region + "&use_path_style=true&endpoint=" + url.QueryEscape("http://"+addr)
}

// startS3 starts the server. low: it gets the processor that nobody else wants.
func startS3(low bool) (*s3Server, error) {
	binary := os.Getenv("VERSITYGW_BIN")
	if binary == "" {
		binary = "../build/buckets/versitygw"
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("an S3 server: %w; scripts/deps.sh installs it", err)
	}
	dir, err := os.MkdirTemp(memoryDir(), "rustmq-bench-s3-")
	if err != nil {
		return nil, err
	}
	s := &s3Server{process: &process{name: "versitygw", dir: dir}, root: filepath.Join(dir, s3Bucket)}
	if err := os.Mkdir(s.root, 0o755); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if s.addr, err = freeAddress(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	args := []string{binary, "--port", s.addr, "--region", s3Region, "--keep-alive", "--quiet", "posix", dir}
	if low {
		if args, err = elsewhere(args...); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s3Key, "ROOT_SECRET_KEY="+s3Secret)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", s.name, err), os.RemoveAll(dir))
	}
	if err := awaitListener(s.addr); err != nil {
		s.stop()
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	return s, nil
}

// elsewhere returns the command line of a program that stands for another machine: it has
// the processor that nobody here wants, and gives it back at once.
func elsewhere(line ...string) ([]string, error) {
	self, err := os.Executable()
	return append([]string{self, "elsewhere"}, line...), err
}

// runElsewhere becomes a program under the kernel's policy for what is idle. The lowest
// priority of the usual one is not enough: who is woken beside it waits for its turn to end,
// as beside anybody. The policy holds within a group; where the kernel makes one of each
// session, against other groups (other sessions, and the kernel's own threads, which
// bring the packets of loopback) the group's priority counts, and that is the lowest.
func runElsewhere(line []string) error {
	if len(line) == 0 {
		return errors.New("elsewhere: name a program")
	}
	path, err := exec.LookPath(line[0])
	if err != nil {
		return err
	}
	if _, err := syscall.Setsid(); err != nil {
		return fmt.Errorf("begin a session: %w", err)
	}
	if err := lowerSession(); err != nil {
		return fmt.Errorf("lower the priority of the session: %w", err)
	}
	// The policy is a thread's, and the program goes on in this one.
	runtime.LockOSThread()
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedIdle}, 0); err != nil {
		return fmt.Errorf("become idle: %w", err)
	}
	return syscall.Exec(path, line, os.Environ())
}

// lowerSession gives the group of this session the lowest priority, where there is one. The
// kernel takes a change each tenth of a second, from who is not root, and else says EAGAIN.
func lowerSession() (err error) {
	for range 50 {
		err = os.WriteFile("/proc/self/autogroup", []byte(leastNice), 0)
		if !errors.Is(err, syscall.EAGAIN) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

const (
	schedIdle = 5    // SCHED_IDLE of sched(7)
	leastNice = "19" // of autogroup, ibidem
)

// memoryDir is a file system in memory, or the directory of temporary files.
func memoryDir() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return os.TempDir()
}

// freeAddress is one that nobody listened on when it was asked for.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// awaitListener waits until an HTTP server answers whatever it likes, for 10 s.
func awaitListener(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nobody answers at %s: %w", addr, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

package roles_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

// terminal opens a new one: what a person has, and what the program gets.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { _ = person.Close() }) // a test may have hung up
	fd := int(person.Fd())
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	must(t, err)
	return person, program
}

// attended is a `rustmq serve` at a terminal.
type attended struct {
	person *os.File
	screen *bufio.Reader
	ended  chan error
	began  string // what stood on the screen until it could be used
	kafka  string
	next   string // the command to paste
	dir    string // where to paste it
}

func serveAtTerminal(t *testing.T, args ...string) *attended {
	t.Helper()
	person, tty := terminal(t)
	cmd := program(t, append([]string{"serve", "--ports", "free"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, cmd.Start())
	must(t, tty.Close())
	a := &attended{person: person, screen: bufio.NewReader(person), ended: make(chan error, 1), dir: cmd.Dir}
	go func() { a.ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // most tests have ended it
	address := regexp.MustCompile(`kafka +(\S+)`)
	for {
		line, err := a.screen.ReadString('\n')
		if err != nil {
			t.Fatalf("it did not start: %v", err)
		}
		a.began += line
		if found := address.FindStringSubmatch(line); found != nil {
			a.kafka = found[1]
		}
		if next, ok := strings.CutPrefix(line, "Next: "); ok {
			a.next = strings.TrimSpace(next)
			return a
		}
	}
}

// rest is what stands on the screen until the program has let go of it.
func (a *attended) rest() string {
	raw, _ := io.ReadAll(a.screen) // EIO is how a terminal ends
	return strings.ReplaceAll(string(raw), "\r\n", "\n")
}

// TestInterruptEndsAtOnce presses Ctrl-C while one client produces and another
// waits for records: it is answered, not waited for.
func TestInterruptEndsAtOnce(t *testing.T) {
	a := serveAtTerminal(t, "--ephemeral")
	writer, err := kgo.NewClient(kgo.SeedBrokers(a.kafka), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation())
	must(t, err)
	t.Cleanup(writer.Close)
	must(t, writer.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr())
	const longPoll = 4 * time.Minute
	asked := make(chan struct{}, 1000)
	reader, err := kgo.NewClient(kgo.SeedBrokers(a.kafka), kgo.ConsumeTopics("t"), kgo.FetchMaxWait(longPoll), kgo.WithHooks(fetchHook(asked)))
	must(t, err)
	defer reader.Close()
	if n := reader.PollFetches(t.Context()).NumRecords(); n != 1 {
		t.Fatalf("%d records", n)
	}
	<-asked // the first
	polling, stopPolling := context.WithCancel(t.Context())
	polled := make(chan struct{})
	go func() { reader.PollFetches(polling); close(polled) }()
	<-asked // and the one that waits
	produced := make(chan struct{})
	go func() { // ends with its client: a record on its way is not given up before
		defer close(produced)
		for !errors.Is(writer.ProduceSync(t.Context(), kgo.StringRecord("y")).FirstErr(), kgo.ErrClientClosed) {
		}
	}()

	began := time.Now()
	_, err = a.person.WriteString("\x03")
	must(t, err)
	screen := a.rest()
	must(t, <-a.ended)
	took := time.Since(began)
	t.Logf("ended in %v: %q", took.Round(time.Millisecond), screen)
	stopPolling()
	writer.Close()
	<-polled
	<-produced
	lines := strings.Split(strings.TrimSpace(strings.TrimPrefix(screen, "^C")), "\n")
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "rustmq stopped in ") {
		t.Errorf("want one line, got %q", lines)
	}
	if graceful := 10 * time.Second; took >= graceful {
		t.Errorf("it waited for its clients: %v", took)
	}
}

// fetchHook is told of each Fetch request that was written.
type fetchHook chan<- struct{}

func (h fetchHook) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	const fetch = 1
	if key == fetch && err == nil {
		h <- struct{}{}
	}
}

// TestClosedTerminalEndsTheProcess holds that a hang-up which comes because the
// terminal is gone is no wish to reload: nobody could stop the process any more.
func TestClosedTerminalEndsTheProcess(t *testing.T) {
	a := serveAtTerminal(t, "--ephemeral")
	must(t, a.person.Close())
	<-a.ended // what it could say has nowhere to go: the exit code does not matter
}

// TestStopWithoutATerminal ends by SIGTERM, as a supervisor does it.
func TestStopWithoutATerminal(t *testing.T) {
	p := serve(t, "--ephemeral")
	p.signal(t, syscall.SIGTERM)
	if line := p.awaitLog(t, "stopped"); !strings.Contains(line, `"level":"INFO"`) {
		t.Errorf("said %s", line)
	}
	if line, err := p.log.ReadString('\n'); err != io.EOF {
		t.Errorf("more was said than that it stopped: %s %v", line, err)
	}
	must(t, p.cmd.Wait())
}

// TestLevelThatWasSetHolds: info is raised to warn on a terminal, where the banner
// says all, but not when somebody asked for it.
func TestLevelThatWasSetHolds(t *testing.T) {
	for _, c := range []struct {
		args []string
		told bool
	}{{nil, false}, {[]string{"--set", "operations.log_level=info"}, true}} {
		a := serveAtTerminal(t, append([]string{"--ephemeral"}, c.args...)...)
		_, err := a.person.WriteString("\x03")
		must(t, err)
		if screen := a.began + a.rest(); strings.Contains(screen, "level=INFO") != c.told {
			t.Errorf("%v: said %q", c.args, screen)
		}
		must(t, <-a.ended)
	}
}

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/storage/guard"
)

// Streams are answers that go on: server-sent events (HTML, "Server-sent events"), which a page
// reads by EventSource. What one says, a route says; that there are not too many, that they end
// with the rights of who reads, and that who does not read is let go is said here.
const (
	// A page that is seen has two, and of a hidden one the console ends them.
	maxStreams       = 64
	maxCallerStreams = 16
	// streamCheck is the time between two looks at whether who reads may still.
	streamCheck = 2 * time.Second
	// streamBeat is that between signs of life where nothing is said: proxies end
	// connections that are silent for a minute.
	streamBeat = 15 * time.Second
	// streamLongest is how long one goes on until its reader has to ask again.
	streamLongest = time.Hour
	// streamRetry is when a reader asks again whose connection broke.
	streamRetry = 2 * time.Second
)

// pulse is when what of a stream happens.
type pulse struct{ check, beat, longest time.Duration }

// streams are those of a server. It is safe for concurrent use.
type streams struct {
	pulse
	again    func(*subject) (*subject, *refusal) // who it is by now; nil: nobody is asked
	stopping context.Context                     // ends when the server closes

	mu  sync.Mutex
	all int            // guarded by mu
	of  map[string]int // by caller; guarded by mu
}

func newStreams(d *door, stopping context.Context) *streams {
	s := &streams{pulse: pulse{streamCheck, streamBeat, streamLongest}, stopping: stopping, of: map[string]int{}}
	if d != nil {
		s.again = d.again
		if d.o.streamPulse != (pulse{}) {
			s.pulse = d.o.streamPulse
		}
	}
	return s
}

// enter takes a place of a caller, until leave.
func (s *streams) enter(caller string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !guard.Check("admin.streams", s.all < maxStreams) {
		return nil, huma.ErrorWithHeaders(huma.NewError(http.StatusServiceUnavailable, fmt.Sprintf("%d streams are read from this server, and it has no more: close a page, or ask another server", s.all)), http.Header{"Retry-After": {"5"}})
	}
	if !guard.Check("admin.streams-per-caller", s.of[caller] < maxCallerStreams) {
		return nil, huma.ErrorWithHeaders(huma.NewError(http.StatusTooManyRequests, fmt.Sprintf("%d streams are read by the same caller, and no more are given: close a page", s.of[caller])), http.Header{"Retry-After": {"5"}})
	}
	s.all++
	s.of[caller]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.of[caller]--; s.of[caller] == 0 {
			delete(s.of, caller)
		}
	}), nil
}

// readerOf is who reads a stream, or where nobody is asked, from where.
func readerOf(ctx context.Context) string {
	if who := subjectOf(ctx); who != nil {
		return who.principal
	}
	is, _ := ctx.Value(callKey{}).(call)
	return is.host.String()
}

type streamOutput struct {
	ContentType  string `header:"Content-Type"`
	CacheControl string `header:"Cache-Control"`
	Buffering    string `header:"X-Accel-Buffering"`
	Body         func(huma.Context)
}

// sender sends an event of a type, "message" if it has none, by which a reader goes on that
// lost the connection after it (Last-Event-ID), unless it is "". It fails once the stream is over.
type sender func(event, id string, v any) error

// stream serves server-sent events to whoever may call a path. open says no with an error, or
// returns what sends events until its context ends or it has no more. It ends the stream, and so
// do the end of the session, the token or the rights that let it begin.
func stream[I any](h *routes, path string, a row[I], open func(context.Context, *I) (func(context.Context, sender) error, error)) {
	route(h, http.MethodGet, path, a, func(ctx context.Context, in *I) (*streamOutput, error) {
		leave, err := h.streams.enter(readerOf(ctx))
		if err != nil {
			return nil, err
		}
		follow, err := open(ctx, in)
		if err != nil {
			leave()
			return nil, err
		}
		body := func(answers huma.Context) {
			defer leave()
			release(answers.Context())
			h.streams.serve(answers, follow, func(now *subject) error { return a.check(now, in) })
		}
		return &streamOutput{"text/event-stream", "no-store", "no", body}, nil
	}, func(op *huma.Operation) {
		op.Responses = map[string]*huma.Response{"200": {
			Description: "Server-sent events, each with its data as JSON. The last one has the type end, and says whether to ask again.",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}}
	})
}

// ended is the last event of a stream.
type ended struct {
	Reason string `json:"reason"`
	Again  bool   `json:"again"` // the reader may ask again
}

// following is one stream that is read.
type following struct {
	control *http.ResponseController
	mu      sync.Mutex
	w       io.Writer // guarded by mu; nil once the stream is over
}

var errStreamOver = errors.New("the stream is over")

// write writes lines and has them go out at once.
func (f *following) write(text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.w == nil {
		return errStreamOver
	}
	_, err := io.WriteString(f.w, text)
	if err == nil {
		err = f.control.Flush()
	}
	if err != nil {
		f.w = nil
	}
	return err
}

// over says why the stream ends, unless it has.
func (f *following) over(why ended) {
	_ = f.send("end", "", why) // who has gone need not know
	f.mu.Lock()
	defer f.mu.Unlock()
	f.w = nil
}

var eventID = strings.NewReplacer("\n", "", "\r", "", "\x00", "")

func (f *following) send(event, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("send a %s: %w", event, err)
	}
	var b strings.Builder
	if event != "" {
		fmt.Fprintf(&b, "event: %s\n", event)
	}
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", eventID.Replace(id))
	}
	fmt.Fprintf(&b, "data: %s\n\n", data)
	return f.write(b.String())
}

// serve writes what follow sends, until that ends or may no more looks at check.
func (s *streams) serve(answers huma.Context, follow func(context.Context, sender) error, check func(*subject) error) {
	ctx, cancel := context.WithCancel(answers.Context())
	f := &following{w: answers.BodyWriter()}
	w, _ := f.w.(http.ResponseWriter) // humago's
	f.control = http.NewResponseController(w)
	if f.write(fmt.Sprintf("retry: %d\n\n", streamRetry.Milliseconds())) != nil {
		cancel()
		return
	}
	watched := make(chan struct{})
	go func() { // until the stream is over; blocks on the reader, for writeTimeout at most
		defer close(watched)
		defer cancel()
		s.watch(ctx, f, check)
	}()
	err := follow(ctx, f.send)
	if err != nil && ctx.Err() == nil {
		f.over(ended{Reason: err.Error(), Again: true})
	}
	f.over(ended{Reason: "there is no more", Again: false})
	cancel()
	<-watched
}

// watch ends a stream once its reader may not read it, and shows that it lives.
func (s *streams) watch(ctx context.Context, f *following, check func(*subject) error) {
	ticker, beat := time.NewTicker(s.check), time.NewTicker(s.beat)
	defer ticker.Stop()
	defer beat.Stop()
	longest := time.NewTimer(s.longest)
	defer longest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.stopping.Done():
			f.over(ended{"the server stops", true})
			return
		case <-longest.C:
			f.over(ended{"it has gone on for long: ask again", true})
			return
		case <-beat.C:
			if f.write(":\n\n") != nil {
				return
			}
		case <-ticker.C:
			now, refused := s.standing(ctx)
			if refused != nil {
				f.over(ended{refused.detail, false})
				return
			}
			if missing := check(now); missing != nil {
				f.over(ended{missing.Error(), false})
				return
			}
		}
	}
}

// standing is who reads a stream, with the rights of the moment.
func (s *streams) standing(ctx context.Context) (*subject, *refusal) {
	who := subjectOf(ctx)
	if s.again == nil || who == nil {
		return who, nil
	}
	return s.again(who)
}

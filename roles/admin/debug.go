package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Paths of what looks into a process.
const (
	debugPath   = "/debug/"
	profilePath = debugPath + "pprof/"
	logsPath    = debugPath + "logs"
)

const (
	// A profile of the processor, or of waits, is of so long unless told; none is of longer
	// than a person waits for.
	defaultProfile = 10 * time.Second
	maxProfile     = 30 * time.Second
	// A trace of the runtime is of MiB a second.
	defaultTrace = time.Second
	maxTrace     = 5 * time.Second
	// Of contention one in so many is counted, and of waits those of so long, while they are
	// profiled: all of them would slow down what is looked at.
	mutexFraction = 100
	blockRate     = 100_000 // nanoseconds
	// defaultLogLines are told unless told otherwise.
	defaultLogLines = 1000
)

// LogLines keeps the last lines of the log of this process.
type LogLines interface {
	// Last returns the last lines, n at most, the oldest first, each with its end.
	Last(n int) [][]byte
}

// debugRows are what the paths of a process ask for that look into it.
func debugRows() []Row {
	needs := describeNeeds([]need{altersCluster}, false)
	return []Row{
		{http.MethodGet, profilePath + "{name}", needs, "of every process; one profile that takes time at once"},
		{http.MethodGet, logsPath, needs, "of every process"},
	}
}

// debugging serves them.
type debugging struct {
	logs     LogLines        // nil: none are kept
	stopping context.Context // ends when the server closes
	place    chan struct{}   // holds a token while a profile is made that takes time
}

// debug serves [debugPath] to who may alter the cluster.
func (d *door) debug(stopping context.Context) http.Handler {
	g := debugging{logs: d.o.Logs, stopping: stopping, place: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+profilePath+"{$}", g.index)
	mux.HandleFunc("GET "+profilePath+"{name}", g.profile)
	mux.HandleFunc("GET "+logsPath, g.tellLogs)
	mux.HandleFunc(debugPath, elsewhere)
	return d.asks(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := subjectOf(r.Context())
		if missing := altersCluster.missing(who, ""); missing != nil {
			d.refuse(w, r, who, &refusal{status: http.StatusForbidden, detail: missing.Error()})
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

// elsewhere answers for what is under debugPath and is none of it, or is not asked for by GET.
func elsewhere(w http.ResponseWriter, r *http.Request) {
	known := strings.HasPrefix(r.URL.Path, profilePath) || r.URL.Path == logsPath
	if known && r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeProblem(w, http.StatusMethodNotAllowed, r.Method+": what looks into a process is asked for by GET")
		return
	}
	writeProblem(w, http.StatusNotFound, fmt.Sprintf("there is no %s: GET %s lists the profiles, and %s has the last lines of the log", visible(r.URL.Path), profilePath, logsPath))
}

// timed are the profiles of a stretch of time, each made by a function that writes it once
// done is.
var timed = []string{"block", "mutex", "profile", "trace"}

// index lists the profiles.
func (g *debugging) index(w http.ResponseWriter, _ *http.Request) {
	var names []string
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	names = slices.Compact(slices.Sorted(slices.Values(append(names, timed...))))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Profiles of this process, for go tool pprof (trace: go tool trace): GET %sNAME\n%s take ?seconds=N; the others ?debug=1 or 2 for text.\n\n", profilePath, strings.Join(timed, ", "))
	for _, name := range names {
		fmt.Fprintln(w, name)
	}
}

// seconds is how long a profile is to be.
func seconds(q url.Values, unless, most time.Duration) (time.Duration, error) {
	text := q.Get("seconds")
	if text == "" {
		return unless, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0) || n > most.Seconds() {
		return 0, fmt.Errorf("seconds=%s: a number above 0, %v at most", visible(text), most.Seconds())
	}
	return time.Duration(n * float64(time.Second)), nil
}

func (g *debugging) profile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if slices.Contains(timed, name) {
		g.profileFor(w, r, name)
		return
	}
	p := pprof.Lookup(name)
	if p == nil {
		writeProblem(w, http.StatusNotFound, fmt.Sprintf("no profile is called %s: GET %s lists them", visible(name), profilePath))
		return
	}
	debug := 0
	if text := r.URL.Query().Get("debug"); text != "" {
		var err error
		if debug, err = strconv.Atoi(text); err != nil || debug < 0 || debug > 2 {
			writeProblem(w, http.StatusUnprocessableEntity, fmt.Sprintf("debug=%s: 0, 1 or 2", visible(text)))
			return
		}
	}
	if name == "heap" {
		runtime.GC() // it is of the last collection
	}
	var made bytes.Buffer
	if err := p.WriteTo(&made, debug); err != nil {
		writeProblem(w, http.StatusInternalServerError, "make the profile: "+err.Error())
		return
	}
	sendProfile(w, name, debug > 0, made.Bytes())
}

// profileFor makes a profile of a stretch of time. There is one of the runtime's, so that
// there is one at a time.
func (g *debugging) profileFor(w http.ResponseWriter, r *http.Request, name string) {
	unless, most := defaultProfile, maxProfile
	if name == "trace" {
		unless, most = defaultTrace, maxTrace
	}
	length, err := seconds(r.URL.Query(), unless, most)
	if err != nil {
		writeProblem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	select {
	case g.place <- struct{}{}:
		defer func() { <-g.place }()
	default:
		writeProblem(w, http.StatusConflict, "another profile is being made: try again when it is done")
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(length + requestTimeout)) // or the request would end by it
	var made bytes.Buffer
	switch name {
	case "profile":
		if err = pprof.StartCPUProfile(&made); err == nil {
			err = g.wait(r.Context(), length)
			pprof.StopCPUProfile()
		}
	case "trace":
		if err = trace.Start(&made); err == nil {
			err = g.wait(r.Context(), length)
			trace.Stop()
		}
	case "mutex":
		before := runtime.SetMutexProfileFraction(mutexFraction)
		err = g.wait(r.Context(), length)
		runtime.SetMutexProfileFraction(before)
		err = errors.Join(err, pprof.Lookup(name).WriteTo(&made, 0))
	case "block":
		runtime.SetBlockProfileRate(blockRate)
		err = g.wait(r.Context(), length)
		runtime.SetBlockProfileRate(0)
		err = errors.Join(err, pprof.Lookup(name).WriteTo(&made, 0))
	}
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "make the profile: "+err.Error())
		return
	}
	sendProfile(w, name, false, made.Bytes())
}

// wait waits, unless who asks has gone, or the server closes.
func (g *debugging) wait(asks context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-asks.Done():
		return asks.Err()
	case <-g.stopping.Done():
		return errors.New("the server stops")
	}
}

func sendProfile(w http.ResponseWriter, name string, text bool, made []byte) {
	kind := "application/octet-stream"
	if text {
		kind = "text/plain; charset=utf-8"
	} else {
		w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(made)))
	_, _ = w.Write(made) // who does not take it has gone
}

// tellLogs tells the last lines of the log.
func (g *debugging) tellLogs(w http.ResponseWriter, r *http.Request) {
	n := defaultLogLines
	if text := r.URL.Query().Get("lines"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n <= 0 {
			writeProblem(w, http.StatusUnprocessableEntity, fmt.Sprintf("lines=%s: a whole number above 0", visible(text)))
			return
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if g.logs == nil {
		return
	}
	_, _ = w.Write(bytes.Join(g.logs.Last(n), nil)) // who does not take it has gone
}

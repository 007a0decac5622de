package audit

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"rustmq.dev/rustmq/storage/guard"
)

// Outcome is what became of what was asked for.
type Outcome uint8

// Outcomes.
const (
	Allowed Outcome = iota + 1 // it was done
	Denied                     // who asked may not, or has not proved who it is
	Failed                     // it was allowed, and could not be done
)

var outcomes = [...]string{Allowed: "allowed", Denied: "denied", Failed: "failed"}

// String returns "allowed", "denied" or "failed".
func (o Outcome) String() string {
	if o < Allowed || o > Failed {
		return "outcome " + strconv.Itoa(int(o))
	}
	return outcomes[o]
}

// ParseOutcome reads what String returns.
func ParseOutcome(s string) (Outcome, bool) {
	for o := Allowed; o <= Failed; o++ {
		if outcomes[o] == s {
			return o, true
		}
	}
	return 0, false
}

// Outcomes returns all of them.
func Outcomes() []Outcome { return []Outcome{Allowed, Denied, Failed} }

// Doors, by which a request comes in.
const (
	DoorKafkaTCP  = "kafka-tcp"
	DoorKafkaTLS  = "kafka-tls"
	DoorKafkaQUIC = "kafka-quic"
	DoorREST      = "rest"
	DoorPeer      = "peer"  // another server of the cluster
	DoorLocal     = "local" // a person at the machine: a signal, a file
)

// Actions that have a meaning of their own to the policy; every other is an administrative
// act, named "<resource>.<verb>": topic.create, acl.delete.
const (
	Login     = "login"     // a client says who it is
	Handshake = "handshake" // a connection is refused before that
	dataUse   = "data."     // first use of a resource by a connection: data.read, data.write
)

// DataUse is the action of a connection that uses a resource for the first time.
func DataUse(operation string) string { return dataUse + operation }

// Event is what is recorded. Text that is too long is cut, and what is not printable in it
// is shown escaped; no field holds a secret.
type Event struct {
	Time         time.Time // zero: now
	Principal    string    // "User:alice"; empty: not known
	Source       string    // address of who asks, with or without a port
	Door         string    // by which it came
	Action       string    // "topic.create", "login"; of a denial "<resource type>.<operation>"
	ResourceType string    // "topic", "group", "cluster", …
	Resource     string    // its name
	Outcome      Outcome
	Reason       string // why it was denied, or failed
	Detail       string // what was done beside that: "partitions=3"
	Request      string // what tells the request from others: client id, request id

	Count int64     // how many like it this stands for; 0: one
	First time.Time // of those, where there are several
	Node  int32     // that recorded it; set by the log
}

// Recorder is where events go. It is safe for concurrent use.
type Recorder interface {
	// Record takes note of an event. It does not block.
	Record(Event)
	// Admit says why an act that has to be recorded is to be refused now: nothing can be
	// recorded, and the policy is to block. It is asked before the act.
	Admit() error
}

// Discard records nothing and refuses nothing.
var Discard Recorder = discard{}

type discard struct{}

func (discard) Record(Event) {}
func (discard) Admit() error { return nil }

// Bounds of an event's text, in bytes.
const (
	maxName   = 256  // of principals and resources: Kafka's topics have 249
	maxWord   = 64   // of what is chosen from few
	maxReason = 512  // of what quotes errors
	maxDetail = 1024 // of lists
)

// bounded returns e with text that can be written.
func (e Event) bounded() Event {
	e.Principal, e.Resource, e.Request = clean(e.Principal, maxName), clean(e.Resource, maxName), clean(e.Request, maxName)
	e.Source, e.Door, e.Action, e.ResourceType = clean(e.Source, maxWord), clean(e.Door, maxWord), clean(e.Action, maxWord), clean(e.ResourceType, maxWord)
	e.Reason, e.Detail = clean(e.Reason, maxReason), clean(e.Detail, maxDetail)
	return e
}

// size is about what e takes in memory.
func (e *Event) size() int64 {
	const fields = 320
	return int64(fields + len(e.Principal) + len(e.Source) + len(e.Door) + len(e.Action) + len(e.ResourceType) + len(e.Resource) + len(e.Reason) + len(e.Detail) + len(e.Request))
}

const cutMark = "…"

// clean returns s in at most most bytes, quoted as Go does it if a character of it is not
// printable, or it begins as if it were quoted.
func clean(s string, most int) string {
	if len(s) > most {
		s = s[:most-len(cutMark)]
		for len(s) > 0 { // no half of a character
			if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
				break
			}
			s = s[:len(s)-1]
		}
		s += cutMark
	}
	if strings.HasPrefix(s, `"`) || strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		quoted := strconv.Quote(s)
		if limit := 2 * most; len(quoted) > limit { // every byte was escaped
			quoted = quoted[:limit] + cutMark
		}
		return quoted
	}
	return strings.Clone(s) // s may be a part of a request
}

// Class is a kind of events that a policy names.
type Class string

// Classes.
const (
	ClassDenied Class = "denied" // whatever was denied
	ClassLogin  Class = "login"  // clients that said who they are
	ClassAdmin  Class = "admin"  // administrative acts, done or failed
	ClassData   Class = "data"   // first use of a resource by a connection
)

// class returns the one that e is of.
func (e *Event) class() Class {
	switch {
	case e.Outcome == Denied:
		return ClassDenied
	case e.Action == Login || e.Action == Handshake:
		return ClassLogin
	case strings.HasPrefix(e.Action, dataUse):
		return ClassData
	}
	return ClassAdmin
}

// ordinary are the acts that clients do as they work, as often as they like, by rights that
// many have: who purges a topic of its own thousands of times a second would have the retention
// of the log take what came before.
var ordinary = map[string]bool{
	"topic.delete-records": true, "topic.produce": true, "group.delete-offsets": true, "transaction.write-marker": true, "session.begin": true, "session.end": true,
}

// folds reports whether several events like e are told as one: but for administrative acts
// that were done, a client can have as many as it likes.
func (e *Event) folds() bool {
	return e.Outcome != Allowed || e.class() != ClassAdmin || !guard.Check("audit.ordinary-acts", !ordinary[e.Action])
}

// byStranger reports whether e is a denial of somebody who has not proved to be anybody.
func (e *Event) byStranger() bool {
	return e.Outcome == Denied && (e.Principal == "" || e.Principal == "User:ANONYMOUS")
}

package roles

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

// hangs is an answer that does not come.
const hangs = "hangs"

// toldServer is a server that answers what it is told to.
type toldServer struct {
	url     string
	answers map[string]string
}

func (s toldServer) URL() string { return s.url }

func (s toldServer) Get(ctx context.Context, path string, most int64) ([]byte, bool, error) {
	text, is := s.answers[path]
	if text == hangs {
		<-ctx.Done()
		return nil, false, ctx.Err()
	}
	if !is {
		return nil, false, errors.New("forbidden")
	}
	return []byte(text), int64(len(text)) > most, nil
}

// TestOtherNodesAreFound as far as they say where they are asked, and named where they do not.
func TestOtherNodesAreFound(t *testing.T) {
	answers := map[string]string{
		"/api/v1/config": `{"node":1}`,
		"/api/v1/nodes": `{"nodes":[{"broker":1,"figures":{"http":"http://10.0.0.1:9642"}},{"broker":2,"figures":{"http":"http://10.0.0.2:9642"}},
			{"broker":3,"unknown":"broker 3 does not say: refused"},{"broker":4,"figures":{"version":"v0"}},{"broker":5,"figures":{"http":"http://127.0.0.1:9642"}}]}`,
		"/api/v1/cluster": `{"nodes":[{"id":1,"roles":["broker"]},{"id":2,"roles":["broker"]},{"id":6,"roles":["broker"],"state":"fenced"},{"id":7,"roles":["controller"]}]}`,
	}
	others, absent := othersOf(t.Context(), toldServer{"http://10.0.0.1:9642", answers})
	if len(others) != 1 || others[0] != (otherNode{"node-2", "http://10.0.0.2:9642"}) {
		t.Errorf("found %+v", others)
	}
	want := []struct{ name, why string }{{"node-3", "refused"}, {"node-4", "v0"}, {"node-5", "of its own machine"}, {"node-6", "fenced"}, {"node-7", "no broker"}}
	if len(absent) != len(want) {
		t.Fatalf("absent: %+v", absent)
	}
	for i, w := range want {
		if absent[i].Name != w.name || !strings.Contains(absent[i].Why, w.why) {
			t.Errorf("%+v, want %s: %s", absent[i], w.name, w.why)
		}
	}
	// On one machine each has a loopback address of its own.
	if others, _ = othersOf(t.Context(), toldServer{"http://127.0.0.2:9642", answers}); len(others) != 2 || others[1].name != "node-5" {
		t.Errorf("on one machine: %+v", others)
	}
	delete(answers, "/api/v1/config")
	if others, absent = othersOf(t.Context(), toldServer{"http://10.0.0.1:9642", answers}); len(others) != 1 || len(absent) != len(want) {
		t.Errorf("where it is not said who answers: %+v, %+v", others, absent)
	}
	if others, absent = othersOf(t.Context(), toldServer{"http://10.0.0.1:9642", nil}); len(others) != 0 || len(absent) != 1 || !strings.Contains(absent[0].Why, "forbidden") {
		t.Errorf("where nothing is said: %+v, %+v", others, absent)
	}
}

// TestOtherMachinesAreNotTakenForThisOne: where each node has its HTTP on the same loopback address of its own
// machine, nobody but the one that answers is asked at it, and the others are named.
func TestOtherMachinesAreNotTakenForThisOne(t *testing.T) {
	answers := map[string]string{
		"/api/v1/config": `{"node":1}`,
		"/api/v1/nodes": `{"nodes":[{"broker":1,"figures":{"http":"http://127.0.0.1:9642"}},{"broker":2,"figures":{"http":"http://127.0.0.1:9642"}},
			{"broker":3,"figures":{"http":"http://127.0.0.1:9643"}},{"broker":4,"figures":{"http":"http://127.0.0.1:9643"}}]}`,
		"/api/v1/cluster": `{"nodes":[{"id":1},{"id":2},{"id":3},{"id":4}]}`,
	}
	for url, away := range map[string][]string{
		"http://127.0.0.1:9642": {"node-2", "node-3", "node-4"}, "http://localhost:9642": {"node-2", "node-3", "node-4"},
	} {
		others, absent := othersOf(t.Context(), toldServer{url, answers})
		if len(others) != 0 || len(absent) != len(away) {
			t.Fatalf("%s: %+v are asked, and %+v not", url, others, absent)
		}
		for i, name := range away {
			if absent[i].Name != name || !strings.Contains(absent[i].Why, "of its own machine") {
				t.Errorf("%s: %+v, want %s", url, absent[i], name)
			}
		}
	}
	// A process that is no broker is asked at an address that a broker elsewhere has too.
	answers["/api/v1/config"] = `{"node":7}`
	answers["/api/v1/nodes"] = `{"nodes":[{"broker":1,"figures":{"http":"http://127.0.0.1:9642"}}]}`
	for _, url := range []string{"http://127.0.0.1:9642", "http://localhost:9642"} {
		if others, absent := othersOf(t.Context(), toldServer{url, answers}); len(others) != 0 || len(absent) == 0 || absent[0].Name != "node-1" {
			t.Errorf("%s: %+v are asked, and %+v not", url, others, absent)
		}
	}
}

// TestAServerThatHangsKnowsOfNobody: it is gathered from what there is without the others then.
func TestAServerThatHangsKnowsOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := map[string]string{"/api/v1/config": hangs, "/api/v1/nodes": hangs, "/api/v1/cluster": hangs}
		if others, absent := othersOf(t.Context(), toldServer{"http://10.0.0.1:9642", silent}); len(others) != 0 || len(absent) != 1 || !strings.Contains(absent[0].Why, "not known") {
			t.Errorf("%+v, %+v", others, absent)
		}
	})
}

package acl

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
)

// crowd has 10,000 rules of 1,000 principals: of each some names, some prefixes and a
// denial, and a few rules for everyone.
func crowd() (*Matcher, []string) {
	var rules []Rule
	var topics []string
	for u := range 1000 {
		who := fmt.Sprintf("User:CN=service-%d,O=example", u)
		for i := range 9 {
			r := Rule{Topic, Literal, fmt.Sprintf("team-%d.events-%d", u, i), who, Wildcard, Read + Operation(i%2), Allow}
			switch i {
			case 6, 7:
				r.Pattern, r.Name = Prefixed, fmt.Sprintf("team-%d.stream-%d.", u, i)
			case 8:
				r.Permission = Deny
			}
			rules = append(rules, r)
		}
		rules = append(rules, Rule{Topic, Prefixed, fmt.Sprintf("public-%d.", u), Everyone, Wildcard, Read, Allow})
		topics = append(topics, fmt.Sprintf("team-%d.stream-7.orders", u))
	}
	return Compile(rules, []string{"User:admin"}), topics
}

// BenchmarkDecision is figure F1: the produce path's decision, remembered and made, beside
// an atomic load with a compare and a Go map of the same keys.
func BenchmarkDecision(b *testing.B) {
	m, topics := crowd()
	a := NewAuthorizer(m)
	who, host := "User:CN=service-7,O=example", netip.MustParseAddr("10.1.2.3")
	sink := 0
	b.Run("load-and-compare", func(b *testing.B) {
		var p atomic.Pointer[Matcher]
		p.Store(m)
		for b.Loop() {
			if p.Load() == m {
				sink++
			}
		}
	})
	b.Run("memo-hit", func(b *testing.B) {
		memo := NewMemo(a)
		memo.Begin(who, &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)})
		name := topics[7]
		b.ReportAllocs()
		for b.Loop() {
			if memo.Allowed(7, name, Write) {
				sink++
			}
		}
	})
	b.Run("begin-and-memo-hit", func(b *testing.B) {
		memo := NewMemo(a)
		remote := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}
		name := topics[7]
		b.ReportAllocs()
		for b.Loop() {
			memo.Begin(who, remote)
			if memo.Allowed(7, name, Write) {
				sink++
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		principals := make([]string, 1000)
		for i := range principals {
			principals[i] = fmt.Sprintf("User:CN=service-%d,O=example", i)
		}
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			if m.Allowed(principals[i], host, Write, Topic, topics[i]) {
				sink++
			}
			i = (i + 389) % 1000
		}
	})
	b.Run("map", func(b *testing.B) {
		type key struct{ principal, topic string }
		byKey := map[key]Operations{}
		principals := make([]string, 1000)
		for i := range principals {
			principals[i] = fmt.Sprintf("User:CN=service-%d,O=example", i)
			byKey[key{principals[i], topics[i]}] = 1 << Write
			for j := range 9 {
				byKey[key{principals[i], fmt.Sprint(topics[i], j)}] = 1 << Write
			}
		}
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			if byKey[key{principals[i], topics[i]}].Has(Write) {
				sink++
			}
			i = (i + 389) % 1000
		}
	})
	if sink < 0 {
		b.Fatal(sink)
	}
}

func BenchmarkCompile(b *testing.B) {
	m, _ := crowd()
	b.ReportAllocs()
	for b.Loop() {
		Compile(m.Rules(), nil)
	}
}

package wire

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"rustmq.dev/rustmq/storage/guard"
)

// A kmsg decoder trusts counts: it makes room for as many elements as there are
// bytes left, of up to a hundred bytes each, and reads as many tagged fields as
// it is told, past the end of the body. [Check] walks a body without decoding
// it, and says what decoding it will take: up to a hundred times its bytes, where
// it names much with little.

// maxTags bounds the tagged fields of one structure. No client sends any to
// the APIs below.
const maxTags = 64

// What is made of a body until it is answered, beside its strings and bytes.
const (
	elementMemory = 200 // an element, decoded, and its part of the answer
	tagMemory     = 400 // an unknown tagged field: a map, where it is the first
)

// maxBody bounds the bodies that are decoded by kmsg, by API where the usual
// bound does not do.
const (
	maxBody      = 2 << 20
	maxGroupBody = 16 << 20 // a leader's assignment of a large group
	// What is more than a push may have is refused in words up to here, and beyond it
	// by the end of the connection.
	maxTelemetryBody = 16 << 20
)

// shape is the layout of a request: a token for each field, in order.
//
//	b h i q u    1, 2, 4, 8, 16 bytes
//	s S y Y      string, nullable string, bytes, nullable bytes
//	(i)          array of a type above
//	[…]          array of structures; null and empty are the same here
//	{…}          nullable structure
//
// :a-b or :a+ behind a token gives the versions that have the field. Tagged
// fields end each structure of a flexible version.
type shape struct {
	flexFrom int16 // first flexible version
	fields   string
	maxBody  int // 0 is the usual bound
}

// never is no version.
const never = math.MaxInt16

// shapes are the requests that are decoded by kmsg, by API key.
func shapeOf(key int16) (shape, bool) {
	switch key {
	case 2: // ListOffsets
		return shape{6, "i b:2+ [s [i i:4+ q i:0-0]] i:10+", 0}, true
	case 3: // Metadata
		return shape{9, "[u:10+ s:0-9 S:10+] b:4+ b:8-10 b:8+", 0}, true
	case 8: // OffsetCommit
		return shape{8, "s i:1+ s:1+ S:7+ q:2-4 [s:0-9 u:10+ [i q q:1-1 i:6+ S]]", maxGroupBody}, true
	case 9: // OffsetFetch
		return shape{6, "s:0-7 [s (i)]:0-7 [s S:9+ i:9+ [s:8-9 u:10+ (i)]]:8+ b:7+", maxGroupBody}, true
	case 10: // FindCoordinator
		return shape{3, "s:0-3 b:1+ (s):4+", 0}, true
	case 11: // JoinGroup
		return shape{6, "s i i:1+ s S:5+ s [s y] S:8+", maxGroupBody}, true
	case 12: // Heartbeat
		return shape{4, "s i s S:3+", 0}, true
	case 13: // LeaveGroup
		return shape{4, "s s:0-2 [s S S:5+]:3+", 0}, true
	case 14: // SyncGroup
		return shape{4, "s i s S:3+ S:5+ S:5+ [s y]", maxGroupBody}, true
	case 15: // DescribeGroups
		return shape{5, "(s) b:3+", 0}, true
	case 16: // ListGroups
		return shape{3, "(s):4+ (s):5+", 0}, true
	case 19: // CreateTopics
		return shape{5, "[s i h [i (i)] [s S]] i b:1+", 0}, true
	case 20: // DeleteTopics
		return shape{4, "(s):0-5 [S u]:6+ i", 0}, true
	case 21: // DeleteRecords
		return shape{2, "[s [i q]] i", 0}, true
	case 22: // InitProducerId
		return shape{2, "S i q:3+ h:3+", 0}, true
	case 23: // OffsetForLeaderEpoch
		return shape{4, "i:3+ [s [i i:2+ i]]", 0}, true
	case 24: // AddPartitionsToTxn
		return shape{3, "[s q h b [s (i)]]:4+ s:0-3 q:0-3 h:0-3 [s (i)]:0-3", 0}, true
	case 25: // AddOffsetsToTxn
		return shape{3, "s q h s", 0}, true
	case 26: // EndTxn
		return shape{3, "s q h b", 0}, true
	case 27: // WriteTxnMarkers
		return shape{1, "[q h b [s (i)] i b:2+]", 0}, true
	case 28: // TxnOffsetCommit
		return shape{3, "s s q h i:3+ s:3+ S:3+ [s:0-5 u:6+ [i q i:2+ S]]", maxGroupBody}, true
	case 29: // DescribeAcls
		return shape{2, "b S b:1+ S S b b", 0}, true
	case 30: // CreateAcls
		return shape{2, "[b s b:1+ s s b b]", 0}, true
	case 31: // DeleteAcls
		return shape{2, "[b S b:1+ S S b b]", 0}, true
	case 32: // DescribeConfigs
		return shape{4, "[b s (s)] b:1+ b:3+", 0}, true
	case 33: // AlterConfigs
		return shape{2, "[b s [s S]] b", 0}, true
	case 35: // DescribeLogDirs
		return shape{2, "[s (i)]", 0}, true
	case 37: // CreatePartitions
		return shape{2, "[s i [(i)]] i b", 0}, true
	case 42: // DeleteGroups
		return shape{2, "(s)", 0}, true
	case 43: // ElectLeaders
		return shape{2, "b:1+ [s (i)] i", 0}, true
	case 44: // IncrementalAlterConfigs
		return shape{1, "[b s [s b S]] b", 0}, true
	case 45: // AlterPartitionReassignments
		return shape{0, "i b:1+ [s [i (i)]]", 0}, true
	case 46: // ListPartitionReassignments
		return shape{0, "i [s (i)]", 0}, true
	case 47: // OffsetDelete
		return shape{never, "s [s [i]]", 0}, true
	case 48: // DescribeClientQuotas
		return shape{1, "[s b S] b", 0}, true
	case 49: // AlterClientQuotas
		return shape{1, "[[s S] [s q b]] b", 0}, true
	case 17: // SaslHandshake
		return shape{never, "s", 0}, true
	case 36: // SaslAuthenticate
		return shape{2, "y", 0}, true
	case 51: // AlterUserScramCredentials
		return shape{0, "[s b] [s b i y y]", 0}, true
	case 50: // DescribeUserScramCredentials
		return shape{0, "[s]", 0}, true
	case 74: // ListConfigResources
		return shape{0, "(b):1+", 0}, true
	case 57: // UpdateFeatures
		return shape{0, "i [s h b:0-0 b:1+] b:1+", 0}, true
	case 60: // DescribeCluster
		return shape{0, "b b:1+ b:2+", 0}, true
	case 61: // DescribeProducers
		return shape{0, "[s (i)]", 0}, true
	case 65: // DescribeTransactions
		return shape{0, "(s)", 0}, true
	case 66: // ListTransactions
		return shape{0, "(s) (q) q:1+ S:2+", 0}, true
	case 68: // ConsumerGroupHeartbeat
		return shape{0, "s s i S S i (s) S:1+ S [u (i)]", maxGroupBody}, true
	case 69: // ConsumerGroupDescribe
		return shape{0, "(s) b", 0}, true
	case 71: // GetTelemetrySubscriptions
		return shape{0, "u", 0}, true
	case 72: // PushTelemetry
		return shape{0, "u i b b y", maxTelemetryBody}, true
	case 75: // DescribeTopicPartitions
		return shape{0, "[s] i {s i}", 0}, true
	}
	return shape{}, false
}

// Check reports whether a body is what its API key and version promise, and of
// a size that may be decoded by kmsg. It returns how many bytes the request will
// take until it is answered, beside those of the body. It allocates nothing but
// its error.
func Check(key, version int16, body []byte) (memory int64, err error) {
	s, ok := shapeOf(key)
	if !ok {
		return 0, fmt.Errorf("%w: API key %d is not known", ErrMalformed, key)
	}
	most := max(maxBody, s.maxBody)
	if !guard.Check("wire.body-size", len(body) <= most) {
		return 0, fmt.Errorf("%w: %d bytes, at most %d are taken by this API", ErrMalformed, len(body), most)
	}
	w := walker{reader: reader{rest: body, flex: version >= s.flexFrom}, version: version}
	w.structure(s.fields)
	return int64(w.named-w.tags)*elementMemory + int64(w.tags)*tagMemory, w.err()
}

type walker struct {
	reader
	version int16
	tags    int // unknown tagged fields; they count as named
}

// structure walks the fields and the tagged fields behind them.
func (w *walker) structure(fields string) {
	for len(fields) > 0 && !w.bad {
		var token string
		token, fields = nextToken(fields)
		body, present := presentIn(token, w.version)
		if present {
			w.field(body)
		}
	}
	if !w.flex || w.bad {
		return
	}
	n := w.uvarint()
	if !guard.Check("wire.tags", n <= maxTags) {
		w.bad = true
	}
	for ; n > 0 && w.name(); n-- {
		w.tags++
		w.uvarint()
		w.span(int(w.uvarint()))
	}
}

func (w *walker) field(token string) {
	inner := token
	if len(token) > 1 {
		inner = token[1 : len(token)-1]
	}
	switch token[0] {
	case 'b':
		w.span(1)
	case 'h':
		w.span(2)
	case 'i':
		w.span(4)
	case 'q':
		w.span(8)
	case 'u':
		w.span(16)
	case 's':
		w.string()
	case 'S':
		w.nullableString()
	case 'y', 'Y':
		w.bytes(token[0] == 'Y')
	case '(':
		for n := w.count(); n > 0 && w.name(); n-- {
			w.field(inner)
		}
	case '[':
		for n := w.count(); n > 0 && w.name(); n-- {
			w.structure(inner)
		}
	case '{':
		if w.int8() != -1 && !w.bad {
			w.structure(inner)
		}
	default:
		panic("wire: a shape has the token " + strconv.Quote(token))
	}
}

// bytes steps over bytes. Where they may not be null, -1 is taken all the same,
// as kmsg does.
func (w *walker) bytes(nullable bool) {
	n := 0
	if w.flex {
		n = int(w.uvarint()) - 1
	} else {
		n = int(w.int32())
	}
	if n > 0 || n < -1 && !nullable {
		w.span(n)
	}
}

// nextToken splits the first token, brackets and versions included, off fields.
func nextToken(fields string) (token, rest string) {
	depth := 0
	for i := range len(fields) {
		switch fields[i] {
		case '[', '{', '(':
			depth++
		case ']', '}', ')':
			depth--
		case ' ':
			if depth == 0 {
				return fields[:i], fields[i+1:]
			}
		}
	}
	return fields, ""
}

// presentIn splits the versions off a token and reports whether version is one
// of them.
func presentIn(token string, version int16) (body string, present bool) {
	i := strings.LastIndexByte(token, ':')
	if i < 0 || strings.ContainsAny(token[i:], "])}") {
		return token, true
	}
	body, versions := token[:i], token[i+1:]
	from, to, bounded := strings.Cut(versions, "-")
	first, err := strconv.Atoi(strings.TrimSuffix(from, "+"))
	last := never
	if bounded {
		last, err = strconv.Atoi(to)
	}
	if err != nil {
		panic("wire: a shape has the versions " + strconv.Quote(versions))
	}
	return body, int(version) >= first && int(version) <= last
}

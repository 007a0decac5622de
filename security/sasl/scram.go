package sasl

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// nonceSize is how many random bytes the server adds to a client's nonce.
const nonceSize = 24

// maxClientNonce is how many a client may choose. It is sent back, and signed.
const maxClientNonce = 512

// scram is the server's side of RFC 5802 §5.
type scram struct {
	mechanism string
	m         *Mechanisms
	random    io.Reader

	step       int
	user       string
	credential Credential
	known      bool
	header     string // the client's gs2 header, which its last message repeats
	nonce      string // the client's and the server's
	signed     string // what both sides sign, but for the client's last message
}

func (s *scram) Judges([]byte) (user string, judges bool) { return s.user, s.step == 1 }

func (s *scram) Step(_ time.Time, message []byte) (Outcome, error) {
	if !guard.Check("sasl.message-length", len(message) <= MaxMessage) {
		s.step = 2
		return Outcome{}, denied(s.user, "a message of %d bytes", len(message))
	}
	s.step++
	switch s.step {
	case 1:
		return s.first(string(message))
	case 2:
		return s.final(string(message))
	}
	return Outcome{}, denied(s.user, "a message behind the last one")
}

// first answers a client's first message with its salt.
func (s *scram) first(message string) (Outcome, error) {
	f, err := parseClientFirst(message)
	if err != nil {
		s.step = 2
		return Outcome{}, denied("", "the first message: %v", err)
	}
	s.user = f.user
	random := make([]byte, nonceSize)
	if _, err := io.ReadFull(s.random, random); err != nil {
		s.step = 2
		return Outcome{}, fmt.Errorf("make a nonce: %w", err)
	}
	_, s.credential, s.known = s.m.credential(s.mechanism, f.user, s.mechanism)
	s.header, s.nonce = f.header, f.nonce+base64.RawStdEncoding.EncodeToString(random)
	answer := "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(s.credential.Salt) + ",i=" + strconv.Itoa(s.credential.Iterations)
	s.signed = f.bare + "," + answer
	return Outcome{Answer: []byte(answer)}, nil
}

// final checks a client's proof, and answers with the server's.
func (s *scram) final(message string) (Outcome, error) {
	f, err := parseClientFinal(message)
	if err != nil {
		return Outcome{}, denied(s.user, "the last message: %v", err)
	}
	if !guard.Check("sasl.scram-binding", f.binding == s.header) {
		return Outcome{}, denied(s.user, "the channel binding of the last message is not that of the first")
	}
	if !guard.Check("sasl.scram-nonce", subtle.ConstantTimeCompare([]byte(f.nonce), []byte(s.nonce)) == 1) {
		if strings.HasSuffix(f.nonce, s.nonce) {
			return Outcome{}, denied(s.user, "the nonce has more than that of this exchange, as librdkafka before 2.6.1 sends it, which Kafka 4 refuses too")
		}
		return Outcome{}, denied(s.user, "the nonce is not that of this exchange")
	}
	h := hashOf(s.mechanism)
	signed := []byte(s.signed + "," + f.withoutProof)
	key := mac(h, s.credential.StoredKey, signed)
	proved := 0
	if len(f.proof) == len(key) {
		subtle.XORBytes(key, key, f.proof)
		proved = subtle.ConstantTimeCompare(digest(h, key), s.credential.StoredKey)
	}
	verifier := mac(h, s.credential.ServerKey, signed)
	if !guard.Check("sasl.scram-proof", proved == 1 && s.known) {
		return Outcome{}, denied(s.user, "unknown user or wrong password")
	}
	return Outcome{Answer: []byte("v=" + base64.StdEncoding.EncodeToString(verifier)), Done: true, User: s.user}, nil
}

// clientFirst is the first message of a client (RFC 5802 §7).
type clientFirst struct {
	header string // gs2-header, with its last comma
	bare   string // what follows it
	user   string
	nonce  string
}

func parseClientFirst(message string) (f clientFirst, err error) {
	flag, rest, ok := strings.Cut(message, ",")
	if !ok {
		return f, errors.New("it has no header")
	}
	authzid, bare, ok := strings.Cut(rest, ",")
	if !ok {
		return f, errors.New("its header does not end")
	}
	// "y" is a client that would bind the channel if the server could.
	if !guard.Check("sasl.scram-binding-flag", flag == "n" || flag == "y") {
		return f, errors.New("it asks for channel binding, which is not offered")
	}
	f.header, f.bare = flag+","+authzid+",", bare
	name, rest, ok := strings.Cut(bare, ",")
	if strings.HasPrefix(name, "m=") {
		return f, errors.New("it has a mandatory extension")
	}
	if !ok || !strings.HasPrefix(name, "n=") {
		return f, errors.New("it has no name")
	}
	if f.user, err = unescapeName(name[2:]); err != nil {
		return f, err
	}
	nonce, extensions, _ := strings.Cut(rest, ",")
	if !strings.HasPrefix(nonce, "r=") || !printable(nonce[2:]) || len(nonce) > maxClientNonce {
		return f, errors.New("it has no nonce, or one out of bounds")
	}
	f.nonce = nonce[2:]
	if authzid != "" {
		as, err := unescapeName(strings.TrimPrefix(authzid, "a="))
		if err != nil || !strings.HasPrefix(authzid, "a=") || as != f.user {
			return f, errors.New("it asks to act as another user")
		}
	}
	for e := range strings.SplitSeq(extensions, ",") {
		if strings.HasPrefix(e, "tokenauth=") { // KIP-48
			return f, errors.New("it is of a delegation token, which are not served")
		}
	}
	return f, nil
}

// clientFinal is the last message of a client.
type clientFinal struct {
	withoutProof string
	binding      string // decoded
	nonce        string
	proof        []byte
}

func parseClientFinal(message string) (f clientFinal, err error) {
	at := strings.LastIndex(message, ",p=")
	if at < 0 {
		return f, errors.New("it has no proof")
	}
	f.withoutProof = message[:at]
	if f.proof, err = base64.StdEncoding.Strict().DecodeString(message[at+3:]); err != nil {
		return f, errors.New("its proof is not base64")
	}
	binding, rest, ok := strings.Cut(f.withoutProof, ",")
	if !ok || !strings.HasPrefix(binding, "c=") {
		return f, errors.New("it has no channel binding")
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(binding[2:])
	if err != nil {
		return f, errors.New("its channel binding is not base64")
	}
	f.binding = string(decoded)
	nonce, _, _ := strings.Cut(rest, ",")
	if !strings.HasPrefix(nonce, "r=") {
		return f, errors.New("it has no nonce")
	}
	f.nonce = nonce[2:]
	return f, nil
}

// unescapeName reads a saslname: "=2C" is a comma, "=3D" an equals sign.
func unescapeName(escaped string) (string, error) {
	var name bytes.Buffer
	for rest := escaped; rest != ""; {
		before, after, found := strings.Cut(rest, "=")
		name.WriteString(before)
		switch {
		case !found:
		case strings.HasPrefix(after, "2C"):
			name.WriteByte(',')
			after = after[2:]
		case strings.HasPrefix(after, "3D"):
			name.WriteByte('=')
			after = after[2:]
		default:
			return "", errors.New("its name is not escaped as it must be")
		}
		rest = after
	}
	if err := CheckName(name.String()); err != nil {
		return "", err
	}
	return name.String(), nil
}

// printable reports whether s can be a nonce: not empty, printable ASCII without commas.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

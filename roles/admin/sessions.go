package admin

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/guard"
)

// Bounds of the sessions of a process. Who begins one more ends the one that was used
// the longest ago: the user's own, or anybody's.
const (
	maxSessions     = 1000
	maxUserSessions = 16
)

// sessions are those that the console has begun at this process, by the hash of what its
// cookies say. They end with the process. It is not safe for concurrent use.
type sessions struct {
	idle, longest time.Duration
	all           map[[sha256.Size]byte]*list.Element
	order         *list.List // of *session, the one that was used last in front
}

// session is one of a user.
type session struct {
	hash  [sha256.Size]byte
	user  string
	mark  [sha256.Size]byte // of what was known of the password
	begun time.Time
	used  time.Time
}

func newSessions(idle, longest time.Duration) *sessions {
	return &sessions{idle: idle, longest: longest, all: map[[sha256.Size]byte]*list.Element{}, order: list.New()}
}

// begin keeps a session of a user, by the text of its cookie.
func (s *sessions) begin(now time.Time, text string, u *metadata.User) *session {
	own, oldest := 0, (*list.Element)(nil)
	for e := s.order.Back(); e != nil; e = e.Prev() {
		if e.Value.(*session).user == u.Name {
			if own++; oldest == nil {
				oldest = e
			}
		}
	}
	if own >= maxUserSessions {
		s.remove(oldest)
	}
	if len(s.all) >= maxSessions {
		s.remove(s.order.Back())
	}
	is := &session{hash: sha256.Sum256([]byte(text)), user: u.Name, mark: passwordMark(u), begun: now, used: now}
	s.all[is.hash] = s.order.PushFront(is)
	return is
}

// use returns the session of a cookie, if it stands: it is neither too old nor unused for
// too long, and user, by its name, has the password it had.
func (s *sessions) use(now time.Time, text string, user func(string) (*metadata.User, bool)) (*session, bool) {
	e := s.standing(now, text, user)
	if e == nil {
		return nil, false
	}
	is := e.Value.(*session)
	is.used = now
	s.order.MoveToFront(e)
	return is, true
}

// stands reports whether use would return a session. It uses none: who only listens is not there.
func (s *sessions) stands(now time.Time, text string, user func(string) (*metadata.User, bool)) bool {
	return s.standing(now, text, user) != nil
}

// standing is the session of a cookie, if it stands, and nil else.
func (s *sessions) standing(now time.Time, text string, user func(string) (*metadata.User, bool)) *list.Element {
	e := s.all[sha256.Sum256([]byte(text))]
	if e == nil {
		return nil
	}
	is := e.Value.(*session)
	u, known := user(is.user)
	switch {
	case !guard.Check("admin.session-idle", now.Sub(is.used) < s.idle),
		!guard.Check("admin.session-longest", now.Sub(is.begun) < s.longest),
		!guard.Check("admin.session-password", known && passwordMark(u) == is.mark):
		s.remove(e)
		return nil
	}
	return e
}

// end ends the session of a cookie.
func (s *sessions) end(text string) {
	if e := s.all[sha256.Sum256([]byte(text))]; e != nil {
		s.remove(e)
	}
}

func (s *sessions) remove(e *list.Element) {
	delete(s.all, e.Value.(*session).hash)
	s.order.Remove(e)
}

// passwordMark is another for another password of a user.
func passwordMark(u *metadata.User) (mark [sha256.Size]byte) {
	if u == nil {
		return mark
	}
	h := sha256.New()
	for i := range u.Credentials {
		c := &u.Credentials[i]
		var head [8]byte
		binary.LittleEndian.PutUint32(head[:], uint32(c.Mechanism))
		binary.LittleEndian.PutUint32(head[4:], uint32(c.Iterations))
		h.Write(head[:])
		for _, part := range [][]byte{c.Salt, c.StoredKey, c.ServerKey} {
			sum := sha256.Sum256(part)
			h.Write(sum[:])
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// csrfToken is what requests that change something have to say in csrfHeader, beside the
// cookie: a page of another site cannot read it. It is found from the cookie alone.
func csrfToken(session string) string {
	m := hmac.New(sha256.New, []byte(session))
	m.Write([]byte("rustmq csrf"))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func sameCSRF(session, given string) bool {
	return guard.Check("admin.csrf-token", subtle.ConstantTimeCompare([]byte(csrfToken(session)), []byte(given)) == 1)
}

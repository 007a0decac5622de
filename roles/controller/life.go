package controller

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"sync"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
)

// Who is about to bring a cluster back from its bucket asks first whether it lives: it puts a
// question beside the metadata log, for which the controller that leads looks, and waits for
// the answer. Both are one line:
//
//	life 1 <32 hex digits: of the question> <by whom, no space> <8 hex digits: crc32c of the line up to here>\n
//
// The question stays when the next life has begun, and has a controller of the one before
// look whether its own was ended, though it has nothing to put there.
const (
	questionName = "recover"
	answerName   = "lives"

	// lifeLook is between two looks for a question: a request each, 21,600 a day, of the
	// kind that costs 0.9 cents then.
	lifeLook = 4 * time.Second
	// LifePatience is for how long an answer is waited for, of a bucket that answers at once:
	// as long as two looks take, and half of another. LifeRequests is how many requests
	// come before the answer is seen, one after the other, each of which may take its time.
	LifePatience = 5 * lifeLook / 2
	LifeRequests = 5
	// lookPatience bounds what is asked of the bucket in one look, and maxLooks how many
	// are under way: what a store takes at most for LifeRequests is waited for.
	lookPatience = time.Minute
	maxLooks     = 4

	maxLifeText = 256 // far above what it takes
)

// QuestionKey is where somebody asks whether a life of a cluster goes on, and AnswerKey where
// it is answered, beside the log of that life.
func QuestionKey(logPrefix string) string { return logPrefix + questionName }

// AnswerKey is as of [QuestionKey].
func AnswerKey(logPrefix string) string { return logPrefix + answerName }

// LifeText is what stands at either key.
func LifeText(question [16]byte, by string) []byte {
	line := fmt.Sprintf("life 1 %x %s ", question, strings.ReplaceAll(by, " ", "-"))
	return fmt.Appendf(nil, "%s%08x\n", line, crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli)))
}

// ParseLife reads what stands at a key of [QuestionKey] or [AnswerKey].
func ParseLife(raw []byte) (question [16]byte, by string, err error) {
	text := string(raw)
	at := strings.LastIndexByte(text, ' ') + 1
	sum, err := strconv.ParseUint(strings.TrimSuffix(text[at:], "\n"), 16, 32)
	if !guard.Check("controller.life-crc", err == nil && uint32(sum) == crc32.Checksum(raw[:at], crc32.MakeTable(crc32.Castagnoli))) {
		return question, "", errors.New("its checksum does not hold")
	}
	words := strings.Fields(text[:at])
	if len(words) != 4 || words[0] != "life" || words[1] != "1" || len(words[2]) != 2*len(question) {
		return question, "", fmt.Errorf("it is of a later version of rustmq: %q", text)
	}
	if _, err := hex.Decode(question[:], []byte(words[2])); err != nil {
		return question, "", fmt.Errorf("%q: %w", text, err)
	}
	return question, words[3], nil
}

// standing is where the log of this life ends in the bucket, as the shipper of a term knows it.
type standing struct{ next, term uint64 }

// lookOut looks, each lifeLook, until ctx ends or another life is found to have begun, which
// it returns as a *FencedError. It has nothing to do with what is shipped: a put that hangs,
// or takes its time, says nothing of a cluster. A look that hangs does not keep the next from
// being made; of these there are maxLooks at a time. Errors of the bucket are nobody's business here: in
// the main they say that nobody asks.
func (s *shipper) lookOut(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var looks sync.WaitGroup
	defer looks.Wait()
	defer cancel()
	ticker := time.NewTicker(lifeLook)
	defer ticker.Stop()
	found, room := make(chan *FencedError, 1), make(chan struct{}, maxLooks)
	for {
		select {
		case <-ctx.Done():
			return nil
		case fence := <-found:
			return fence
		case <-ticker.C:
		}
		select {
		case room <- struct{}{}:
		default:
			continue
		}
		looks.Go(func() {
			defer func() { <-room }()
			if fence, fenced := errors.AsType[*FencedError](s.look(ctx)); fenced {
				select {
				case found <- fence:
				default:
				}
			}
		})
	}
}

// look has this controller, if it leads, answer who asks whether it lives, and find out
// whether its life was ended.
func (s *shipper) look(ctx context.Context) error {
	term, leads := s.o.Leads()
	if !leads {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	raw, err := bucket.ReadAll(ctx, s.o.Bucket, QuestionKey(s.o.Prefix), maxLifeText)
	if err != nil {
		return err
	}
	if at := s.standing.Load(); at != nil && at.term == term {
		if err := s.lookNext(ctx, at); err != nil {
			return err
		}
	}
	question, _, err := ParseLife(raw)
	s.mu.Lock()
	answered := question == s.answered
	s.mu.Unlock()
	if err != nil || answered {
		return err
	}
	if err := s.o.Bucket.Put(ctx, AnswerKey(s.o.Prefix), bucket.Bytes(LifeText(question, s.o.Name))); err != nil {
		return err
	}
	s.mu.Lock()
	s.answered = question
	s.mu.Unlock()
	s.o.Log.Warn("somebody was about to recover this cluster from its bucket, and was told that it lives", "question", fmt.Sprintf("%x", question))
	return nil
}

// lookNext looks at the number that comes next in the log. An entry of another life ends this
// one. Any other that stands there is for the shipper to judge, which may be putting it. That
// it cannot be read says nothing of another life, and keeps nobody from being answered.
func (s *shipper) lookNext(ctx context.Context, at *standing) error {
	there, err := s.read(ctx, at.next)
	switch {
	case err != nil:
		return nil
	case !guard.Check("controller.life-ended", there.Incarnation <= s.o.Incarnation):
		if err := s.leadsStill(ctx, at.term); err != nil {
			return err
		}
		return s.fence(&FencedError{Incarnation: there.Incarnation})
	case s.standing.Load() == at:
		s.unjudged.Store(true)
		s.Hurry()
	}
	return nil
}

// judgeNext judges an entry that was found at the number that comes next.
func (s *shipper) judgeNext(ctx context.Context) error {
	there, err := s.read(ctx, s.next)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.judge(ctx, there)
}

// Ended returns why this controller decides nothing any more, a [*FencedError], once
// another life of the cluster is known to have begun.
func (c *Controller) Ended() error {
	if by := c.state.Image().EndedBy(); by > 0 {
		return &FencedError{Incarnation: uint32(by)}
	}
	if k := c.keeper(); k != nil {
		if fence, fenced := errors.AsType[*FencedError](k.shipper.Fenced()); fenced && fence.Incarnation > 0 {
			return fence
		}
	}
	return nil
}

// endLife has all nodes of this life know that another one has begun, if this controller
// leads, or comes to. Another one that leads finds out for itself.
func (c *Controller) endLife(ctx context.Context, by uint32) {
	for {
		image := c.state.Image()
		if image.EndedBy() > 0 || image.FeatureLevel() < metadata.ObjectTopicsFeatureLevel {
			return
		}
		if _, leads := c.reigns(); leads {
			_, err := c.proposeFirst(ctx, metadata.NewEndLife(uint64(by)))
			if err != nil && ctx.Err() == nil {
				c.log.Warn("the other nodes could not be told that this cluster has another life; trying on", "error", err)
			}
		}
		pause := time.NewTimer(reignPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

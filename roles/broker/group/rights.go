package group

import (
	"slices"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Rights say which topics a client may know of. They never change, and two that are equal
// (==) say the same.
type Rights interface {
	// Describes reports whether the client may know of a topic.
	Describes(topic string) bool
	// SameClient reports whether other rights are the same client's, by other rules.
	SameClient(other Rights) bool
}

// allRights are those of every client where nobody authorises.
type allRights struct{}

func (allRights) Describes(string) bool  { return true }
func (allRights) SameClient(Rights) bool { return true }

// visibleTo returns the topics of p that a client may know of.
func (p *subscription) visibleTo(rights Rights) []string {
	hidden := func(topic string) bool { return !guard.Check("group.pattern-rights", rights.Describes(topic)) }
	first := slices.IndexFunc(p.topics, hidden)
	if first < 0 {
		return p.topics
	}
	visible := slices.Clone(p.topics[:first])
	for _, topic := range p.topics[first+1:] {
		if !hidden(topic) {
			visible = append(visible, topic)
		}
	}
	return visible
}

// patternTopics returns the topics that m subscribes by its pattern, sorted: of those that
// match, the ones that it may know of. Rights are not on record: of a member that was not
// heard since the log was read it is what it is meant to have.
func (cg *consumerGroup) patternTopics(m *consumerMember) []string {
	p := cg.patterns[m.pattern]
	switch {
	case p == nil:
		return nil
	case m.rights != nil:
		return m.visible
	case !cg.group.core.opt.Authorised:
		return p.topics
	}
	meant := map[storage.TopicID]bool{}
	for place := range m.target.places {
		meant[place.topic] = true
	}
	var topics []string
	for _, topic := range p.topics {
		if meant[cg.catalogue().TopicID(topic)] {
			topics = append(topics, topic)
		}
	}
	return topics
}

// see notes what m may know of now, and reports whether others are to be given other
// topics for it. Who sees by the same client's rights does so by the new ones from then
// on, so that a change of rules makes one new epoch and not one for each member.
func (cg *consumerGroup) see(m *consumerMember, rights Rights) bool {
	if rights == nil {
		rights = allRights{}
	}
	was := m.rights
	if was == rights {
		return false
	}
	before, guessed := cg.patternTopics(m), m.guessed
	m.rights, m.guessed = rights, false
	cg.look(m)
	if was == nil {
		lost := slices.ContainsFunc(before, func(topic string) bool {
			_, sees := slices.BinarySearch(m.visible, topic)
			return !sees
		})
		// The target is that of a time when it was known what m may know of, unless it
		// was decided without.
		return lost || guessed && !slices.Equal(before, m.visible)
	}
	changed := !slices.Equal(before, m.visible)
	if rights.SameClient(was) {
		for _, other := range cg.members {
			if other.rights != was {
				continue
			}
			saw := other.visible
			other.rights = rights
			cg.look(other)
			changed = changed || !slices.Equal(saw, other.visible)
		}
	}
	return changed
}

// look finds the topics of its pattern that m sees.
func (cg *consumerGroup) look(m *consumerMember) {
	m.visible = nil
	p := cg.patterns[m.pattern]
	if p == nil || m.rights == nil {
		return
	}
	for _, other := range cg.members {
		if other != m && other.pattern == m.pattern && other.rights == m.rights && other.looked == p.round {
			m.visible, m.looked = other.visible, p.round
			return
		}
	}
	m.visible, m.looked = p.visibleTo(m.rights), p.round
	for _, other := range cg.members { // most see the same, by whatever rights: it is kept once
		if other != m && other.pattern == m.pattern && other.looked == p.round && slices.Equal(other.visible, m.visible) {
			m.visible = other.visible
			return
		}
	}
}

// lookAgain is look for all that subscribe by a pattern, which matches other topics now.
func (cg *consumerGroup) lookAgain(source string) {
	for _, m := range cg.members {
		if m.pattern == source && m.rights != nil {
			cg.look(m)
		}
	}
}

// unheard reports whether members subscribe by patterns of which it is not known yet what
// they may know of.
func (cg *consumerGroup) unheard() bool {
	for _, m := range cg.members {
		if m.rights == nil && m.pattern != "" && m.epoch != leaveStaticEpoch {
			return true
		}
	}
	return false
}

package admin

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// PageQuery asks for a part of a list. What comes and goes meanwhile is seen, or not; what was
// there all the time is in exactly one part.
type PageQuery struct {
	Limit  int    `query:"limit" minimum:"0" maximum:"10000" doc:"entries at most; 0, or left out: all of them"`
	Cursor string `query:"cursor" maxLength:"4096" doc:"next of the answer before: what comes behind it; left out: from the first on"`
}

// NextPage is in the answer of a list.
type NextPage struct {
	Next string `json:"next,omitempty" doc:"cursor of what comes behind these; left out: nothing does"`
}

// partOf sorts a list by its keys, each of which is there once, and returns the part that is
// asked for.
func partOf[T any](q PageQuery, all []T, key func(T) string) (part []T, next NextPage, err error) {
	slices.SortFunc(all, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	if q.Cursor != "" {
		raw, err := base64.RawURLEncoding.DecodeString(q.Cursor)
		if err != nil || len(raw) == 0 {
			return nil, next, badRequest(errors.New("cursor: it is none that an answer had as next"))
		}
		behind, found := slices.BinarySearchFunc(all, string(raw), func(one T, at string) int { return cmp.Compare(key(one), at) })
		if found {
			behind++
		}
		all = all[behind:]
	}
	if q.Limit == 0 || len(all) <= q.Limit {
		return all, next, nil
	}
	part = all[:q.Limit]
	next.Next = base64.RawURLEncoding.EncodeToString([]byte(key(part[len(part)-1])))
	return part, next, nil
}

// numberKey has numbers sorted as text as they are as numbers.
func numberKey[N ~int32 | ~uint64 | ~int64](n N) string { return fmt.Sprintf("%020d", n) }

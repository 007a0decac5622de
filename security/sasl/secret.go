package sasl

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// ReadPassword reads a password: the first line, without its end. It is at most
// [MaxPassword] bytes.
func ReadPassword(r io.Reader) (string, error) { return readLine(r, MaxPassword) }

// ReadToken reads a token that a client shows by OAUTHBEARER: the first line, without its
// end.
func ReadToken(r io.Reader) (string, error) { return readLine(r, MaxToken) }

func readLine(r io.Reader, most int) (string, error) {
	raw, err := io.ReadAll(io.LimitReader(r, int64(most)+2)) // with an end of line
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	line = strings.TrimSuffix(line, "\r")
	switch {
	case line == "":
		return "", errors.New("there is nothing in its first line")
	case len(line) > most:
		return "", fmt.Errorf("its first line has more than %d bytes", most)
	}
	return line, nil
}

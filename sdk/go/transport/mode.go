package transport

import "fmt"

// Mode says over what brokers are dialled.
type Mode int

const (
	Auto Mode = iota // what wins by measurement; QUIC or TCP
	QUIC             // QUIC alone
	TCP              // TCP alone
)

// names are those of users, in flags and files.
var names = [...]string{Auto: "auto", QUIC: "quic", TCP: "tcp"}

func (m Mode) String() string {
	if m < 0 || int(m) >= len(names) {
		return fmt.Sprintf("Mode(%d)", int(m))
	}
	return names[m]
}

// MarshalText gives the name: auto, quic or tcp.
func (m Mode) MarshalText() ([]byte, error) {
	if m < 0 || int(m) >= len(names) {
		return nil, fmt.Errorf("transport %v: want auto, quic or tcp", m)
	}
	return []byte(names[m]), nil
}

// UnmarshalText reads a name: auto, quic or tcp.
func (m *Mode) UnmarshalText(text []byte) error {
	for mode, name := range names {
		if string(text) == name {
			*m = Mode(mode)
			return nil
		}
	}
	return fmt.Errorf("transport %q: want auto, quic or tcp", text)
}

package configs

import "strings"

// ofKubernetes tells whether a variable is one that Kubernetes sets in pods for a
// Service named rustmq or rustmq-…, and so sets no key. rest is its name without
// environPrefix: SERVICE_HOST, or HEADLESS_PORT_9092_TCP_ADDR for rustmq-headless.
// No key is among them: each has "__" in its variable. Nor is what a person may
// have meant as one, RUSTMQ_NETWORK_HTTP_PORT=8080: of those that end in PORT, only
// what has a URL for its value is Kubernetes'.
func ofKubernetes(rest, value string) bool {
	if strings.Contains(rest, "__") {
		return false
	}
	words := strings.Split(rest, "_")
	for i, w := range words {
		after := words[i+1:]
		switch {
		case w == "SERVICE" && len(after) == 1 && after[0] == "HOST", // of the Service
			w == "SERVICE" && len(after) > 0 && after[0] == "PORT": // and of one of its ports, by name
			return true
		case w == "PORT" && isLink(after):
			return len(after) == 3 || strings.Contains(value, "://")
		}
	}
	return false
}

// isLink tells whether words are what follows PORT: nothing, 9092_TCP, or
// 9092_TCP_ADDR.
func isLink(words []string) bool {
	switch len(words) {
	case 0:
		return true
	case 2:
		return digits(words[0]) && isProtocol(words[1])
	case 3:
		return digits(words[0]) && isProtocol(words[1]) && (words[2] == "PROTO" || words[2] == "PORT" || words[2] == "ADDR")
	}
	return false
}

func isProtocol(s string) bool { return s == "TCP" || s == "UDP" || s == "SCTP" }

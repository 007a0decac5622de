package compatibility

import (
	"fmt"
	"strings"

	"rustmq.dev/rustmq/roles/broker"
)

// Authorisation is docs/kafka-authorisation.md, for a broker whose APIs ask for this.
func Authorisation(all []broker.APINeeds) string {
	var b strings.Builder
	b.WriteString("# What each API asks for\n\n" +
		"Made from the code by `make generate`: the broker's table of handlers, where an API\n" +
		"without a row does not compile. `TestEveryAPIAsksForWhatItsRowSays` asks for each, as\n" +
		"every kind of principal: one without a rule is refused as the table says, one with the\n" +
		"rules of the row is served, one that lacks any that is always needed is refused, and a super user is\n" +
		"served. [security.md](security.md) says what rules are.\n\n" +
		"Where authorisation is off, every client is a super user. What an answer has of several\n" +
		"topics, groups or transactional ids is refused one by one: the others are served.\n\n" +
		"| key | API | asks for | without a rule | with the rules of the row | super user |\n|---|---|---|---|---|---|\n")
	names := kafkaAPIs()
	for _, n := range all {
		asks := make([]string, 0, len(n.List))
		for _, need := range n.List {
			asks = append(asks, strings.TrimSpace(fmt.Sprintf("%s of the %s", words(need.Operation.String()), words(need.Resource.String()))+when(need.When)))
		}
		if len(asks) == 0 {
			asks = append(asks, "nothing")
		}
		served := "served"
		if n.Hides != "" {
			served = "served, but for " + n.Hides
		}
		without := served
		if n.Refused != "" {
			without = "`" + n.Refused + "`"
		}
		with := "served"
		if n.Hides != "" {
			with = served
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | served |\n", n.Key, names[n.Key].name, strings.Join(asks, "; "), without, with)
	}
	return b.String()
}

func when(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// words is a name of package acl as Kafka's documents write it.
func words(name string) string {
	return strings.ReplaceAll(name, "-", " ")
}

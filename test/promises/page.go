package promises

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// order is how the page goes through the others: as docs/index.md does.
var order = strings.Fields(`README.md docs/index.md docs/rules.md docs/quickstart.md docs/concepts.md
	docs/secure-cluster.md docs/clients.md sdk/go/README.md sdk/rust/README.md sdk/scenarios/README.md docs/transports.md
	docs/conditional-append.md docs/operations.md docs/deployment.md docs/kubernetes.md docs/console.md docs/groups.md docs/cluster.md
	docs/upgrade.md docs/diagnostics.md docs/tracing.md docs/client-metrics.md docs/admin-api.md docs/security.md docs/storage.md
	docs/etl.md docs/etl-inline.md docs/etl-async.md docs/etl-batteries.md docs/etl-modules.md docs/etl-abi.md`)

const begin = `# What is promised, and what shows it

Made by ` + "`make generate`" + ` of test/promises/claims, and held by ` + "`make test`" + `: each sentence stands in its page, each test, check and
figure is there. A page of which every sentence needs a row is marked *whole*; of the others a sentence needs one that says never,
always, nothing, nobody, at least, at most, exactly once, lost or survives, or how long or how much. Sentences that claim
nothing (where to look, what a word means, what to do) are counted, not shown; those that name their tests need no row.

What is not here: pages that are made of the code ([configuration](configuration.md), [cost](cost.md), [Kafka compatibility](kafka-compatibility.md),
[metrics](reference/metrics.md), [commands](reference/cli.md), [formats](formats.md)), of which a test says that they are fresh, and
[performance](performance.md) and [reliability](reliability.md), which are made of what was measured, missed or met. The [threat model](threat-model.md) names its tests itself,
and so do the facts of [architecture](architecture.md#non-obvious). [Scale](scale.md) reckons with the sizes of figure K6. What other pages
claim has no rows: [troubleshooting](troubleshooting.md), [runbooks](runbooks.md), the [pictures of the console](console-gallery.md), [dependencies](dependencies.md), design records.

| word | what it is |
|---|---|
| a name of a test | a test in Go of that package, run by ` + "`make test`" + `, or by the suite of its folder |
| figure | a row of [performance](performance.md) as it was last measured |
| guard | a check in the code: the suite ` + "`mutants`" + ` turns it off, and expects a test to fail |
| suite, cases | a file that ` + "`make suites`" + ` runs |
| commands | those of a page, which ` + "`make suite-docs`" + ` runs as they stand |
| source | the file that the sentence speaks of |
`

// Document is docs/promises.md.
func Document(pages []Page, proofs *Proofs) (string, error) {
	var b strings.Builder
	b.WriteString(begin)
	sentences, claims, missed := count(pages, proofs)
	fmt.Fprintf(&b, "\n%d sentences of %d pages are shown by %d rows. Of the figures that rows rest on, %s.\n", sentences, len(pages), claims, missed)
	left := map[string]Page{}
	for _, p := range pages {
		left[p.Path] = p
	}
	for _, path := range order {
		p, ok := left[path]
		if !ok {
			continue
		}
		delete(left, path)
		if err := p.write(&b, proofs); err != nil {
			return "", err
		}
	}
	for path := range left {
		return "", fmt.Errorf("page.go gives %s no place", path)
	}
	return b.String(), nil
}

// count tells how many sentences there are that claim something, in how many rows, and in words
// how many of the figures among their proofs miss what they must.
func count(pages []Page, proofs *Proofs) (sentences, rows int, missed string) {
	late := map[string]bool{}
	for _, p := range pages {
		for _, c := range p.Claims {
			if c.Proofs[0].Kind == "plain" {
				continue
			}
			rows++
			sentences += len(c.Sentences)
			for _, proof := range c.Proofs {
				if proof.Kind != "figure" {
					continue
				}
				if f, err := proofs.figure(proof); err == nil && f.Missed() {
					late[f.Figure+", "+f.Name] = true
				}
			}
		}
	}
	if len(late) == 0 {
		return sentences, rows, "all reach what they must"
	}
	return sentences, rows, "these miss what they must: " + strings.Join(slices.Sorted(maps.Keys(late)), "; ")
}

func (p Page) write(b *strings.Builder, proofs *Proofs) error {
	whole := ""
	if p.Part != "" {
		whole = ": " + p.Part + " (whole)"
	} else if p.Whole {
		whole = " (whole)"
	}
	fmt.Fprintf(b, "\n## %s%s\n\n| what is said | what shows it |\n|---|---|\n", strings.TrimPrefix(p.Path, "docs/"), whole)
	plain := 0
	for _, c := range p.Claims {
		if c.Proofs[0].Kind == "plain" {
			plain += len(c.Sentences)
			continue
		}
		shown := make([]string, len(c.Proofs))
		for i, proof := range c.Proofs {
			text, err := proofs.show(proof)
			if err != nil {
				return err
			}
			shown[i] = text
		}
		fmt.Fprintf(b, "| %s | %s |\n", cell(strings.Join(c.Sentences, "<br>")), strings.Join(shown, "<br>"))
	}
	if plain > 0 {
		fmt.Fprintf(b, "\nSentences that claim nothing: %d.\n", plain)
	}
	return nil
}

// cell is text that ends no cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// show is a proof as the page has it.
func (p *Proofs) show(proof Proof) (string, error) {
	first, rest, _ := strings.Cut(proof.Rest, " ")
	switch proof.Kind {
	case "test":
		names := strings.Fields(rest)
		return fmt.Sprintf("`%s`: %s", strings.TrimPrefix(first, "./"), strings.Join(names, ", ")), nil
	case "figure":
		f, err := p.figure(proof)
		return "figure " + f.String(), err
	case "guard":
		return "guard `" + proof.Rest + "`", nil
	case "suite":
		file, words, _ := strings.Cut(rest, " ")
		if words != "" {
			words = ": " + cell(words)
		}
		return fmt.Sprintf("suite %s: `%s`%s", first, file, words), nil
	case "cases":
		return fmt.Sprintf("cases of `%s`: %s", first, cell(rest)), nil
	case "block":
		return fmt.Sprintf("commands of `%s`, which print `%s`", first, rest), nil
	case "source":
		return fmt.Sprintf("source `%s`", first), nil
	case "default":
		return fmt.Sprintf("default of [`%s`](configuration.md)", first), nil
	case "page":
		return fmt.Sprintf("[%s](%s)", proof.Rest, fromDocs(proof.Rest)), nil
	}
	return "", fmt.Errorf("%s: %s with other proofs", proof.Line, proof.Kind)
}

// fromDocs is the way to a page from docs/.
func fromDocs(path string) string {
	if rest, ok := strings.CutPrefix(path, "docs/"); ok {
		return rest
	}
	return "../" + path
}

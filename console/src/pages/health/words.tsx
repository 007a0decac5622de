// Sentences of the server in which commands stand between backquotes.
import type { ComponentChildren } from "preact";

// commandsIn shows what stands between backquotes as code, and all else as text.
export function commandsIn(sentence: string): ComponentChildren {
  return sentence.split("`").map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part));
}

// What differs between two texts, line by line. Longer ones are not compared: both are shown.

export interface Line {
  text: string;
  same: boolean;
}

const mostCells = 1_000_000; // of the table that finds what is common

// diffLines marks the lines of both texts that the other has as well, in the same order.
export function diffLines(before: string, after: string): { before: Line[]; after: Line[] } {
  const a = before.split("\n");
  const b = after.split("\n");
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const sameA = a.map((_, i) => i < head || i >= a.length - tail);
  const sameB = b.map((_, i) => i < head || i >= b.length - tail);
  const n = a.length - head - tail;
  const m = b.length - head - tail;
  if (n > 0 && m > 0 && n * m <= mostCells) {
    // common[i][j] is how many lines a[i…] and b[j…] have in common, of what lies between.
    const width = m + 1;
    const common = new Uint32Array((n + 1) * width);
    const cell = (i: number, j: number) => common[i * width + j] ?? 0;
    for (let i = n - 1; i >= 0; i--) {
      for (let j = m - 1; j >= 0; j--) {
        common[i * width + j] = a[head + i] === b[head + j] ? cell(i + 1, j + 1) + 1 : Math.max(cell(i + 1, j), cell(i, j + 1));
      }
    }
    for (let i = 0, j = 0; i < n && j < m; ) {
      if (a[head + i] === b[head + j]) {
        sameA[head + i++] = true;
        sameB[head + j++] = true;
      } else if (cell(i + 1, j) >= cell(i, j + 1)) i++;
      else j++;
    }
  }
  return { before: a.map((text, i) => ({ text, same: sameA[i] ?? false })), after: b.map((text, i) => ({ text, same: sameB[i] ?? false })) };
}

// pretty is JSON in lines, where a text is JSON; else the text.
export function pretty(text: string): string {
  const first = text.trimStart()[0];
  if (first !== "{" && first !== "[") return text;
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  return indented(text);
}

// indented sets JSON in lines without a change to what it says: numbers and escapes stay as they
// are written, which JSON.parse would lose.
function indented(text: string): string {
  let out = "";
  let depth = 0;
  const line = () => "\n" + "  ".repeat(depth);
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? "";
    if (c === '"') {
      const from = i;
      for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === "\\") i++;
      out += text.slice(from, i + 1);
    } else if (c === "{" || c === "[") {
      const rest = text.slice(i + 1).match(/^\s*[}\]]/);
      if (rest) {
        out += c + rest[0].trim();
        i += rest[0].length;
      } else {
        depth++;
        out += c + line();
      }
    } else if (c === "}" || c === "]") {
      depth--;
      out += line() + c;
    } else if (c === ",") out += c + line();
    else if (c === ":") out += ": ";
    else if (!/\s/.test(c)) out += c;
  }
  return out;
}

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

// Passwords that are made here, in the browser, so that nobody has to invent one.

// Without those that look alike in some font, and without what shells, URLs and files of
// configuration read as something else.
const alphabet = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const length = 24; // 24 × log2(56) = 139 bits

// makePassword returns letters and digits from the browser's own source of randomness.
export function makePassword(): string {
  let text = "";
  const bytes = new Uint8Array(4 * length);
  while (text.length < length) {
    crypto.getRandomValues(bytes);
    for (const b of bytes) {
      const at = b & 63; // of 64 values those beyond the alphabet are thrown away: each letter is as likely
      if (at < alphabet.length && text.length < length) {
        text += alphabet.charAt(at);
      }
    }
  }
  bytes.fill(0);
  return text;
}

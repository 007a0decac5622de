// Waiting for what another process is on its way to.
const limit = Number(process.env.PATIENCE ?? 30_000);

// until calls is until it answers with something true, and answers with that; an exception
// counts as no.
export async function until(what, is) {
  let last;
  for (const deadline = Date.now() + limit; Date.now() < deadline; await new Promise((resolve) => setTimeout(resolve, 50))) {
    try {
      const answer = await is();
      if (answer) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`never came: ${what}`, { cause: last });
}

/** How long to wait before trying again; `random` in [0, 1) is handed in. */

const FIRST_MS = 500;
/** People look at a page that says "reconnecting"; a quarter of a minute is the longest that feels alive. */
const LONGEST_MS = 15_000;

/** Doubling from half a second, with jitter over the upper half, so that a crowd does not come back at once. */
export function backoffMs(attempt: number, random: number): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(ceiling * (0.5 + 0.5 * random));
}

/** The server said when to come back: never earlier, and spread a little. */
export function spreadMs(retryAfterMs: number, random: number): number {
  return Math.round(retryAfterMs * (1 + 0.25 * random));
}

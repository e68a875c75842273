/* What the local service tells this page of itself, and does for it. */

export async function service() {
  const {port, path, isOpen} = await ask("/service");
  return {url: `ws://${location.hostname}:${port}${path}`, isOpen};
}

export function tables() {
  return ask("/tables");
}

/* End a connection as one ends that vanishes: no close, and `$disconnect` is not called. */
export function vanish(connectionId) {
  return ask("/vanish", {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({connectionId}),
  });
}

/* The steps of the app as they happen, for as long as the page is open. `restarted` is called when they
   begin anew: then there are other tables too. */
export async function follow(happened, restarted) {
  let run = null, last = 0;
  for (;;) {
    let told;
    try {
      told = await ask(`/steps?run=${run ?? ""}&after=${last}`);
    } catch {  // It restarts after an edit, or has ended.
      await new Promise(again => setTimeout(again, 1000));
      continue;
    }
    if (run !== null && told.run !== run) restarted();
    if (told.run !== run) last = 0;
    run = told.run;
    last = told.steps.at(-1)?.number ?? last;
    if (told.steps.length > 0) happened(told.steps);
  }
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/* Calls the playground's own routes on the local service. */

export async function service() {
  const {port, path, isOpen} = await ask("/service");
  return {url: `ws://${location.hostname}:${port}${path}`, isOpen};
}

export function tables() {
  return ask("/tables");
}

/* Break a connection without a close frame and without calling `$disconnect`. */
export function vanish(connectionId) {
  return ask("/vanish", {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({connectionId}),
  });
}

/* Call `happened` with the service's new steps for as long as the page is open. Call `restarted` after the
   service has restarted, because its steps are then numbered from 1 again. */
export async function follow(happened, restarted) {
  let run = null, last = 0;
  for (;;) {
    let response;
    try {
      response = await ask(`/steps?run=${run ?? ""}&after=${last}`);
    } catch {  // The service is restarting after an edit, or has ended.
      await new Promise(again => setTimeout(again, 1000));
      continue;
    }
    if (run !== null && response.run !== run) restarted();
    if (response.run !== run) last = 0;
    run = response.run;
    last = response.steps.at(-1)?.number ?? last;
    if (response.steps.length > 0) happened(response.steps);
  }
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

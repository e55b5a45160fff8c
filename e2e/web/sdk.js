// What an application does with Descope's browser SDK: nothing here knows that
// its base URL is a mount of the kit.
"use strict";

const sdk = Descope({
  projectId: new URLSearchParams(location.search).get("project"),
  baseUrl: location.origin + "/auth",
  persistTokens: true,
  autoRefresh: true,
});

// What the SDK told this page, for the tests to read.
const told = { sessionTokens: [], authenticated: null, user: null };
sdk.onSessionTokenChange((token) => told.sessionTokens.push(token));
sdk.onIsAuthenticatedChange((yes) => { told.authenticated = yes; });
sdk.onUserChange((user) => { told.user = user?.loginIds?.[0] ?? null; });

// As the SDK's README advises: whoever was signed in before a reload is again.
sdk.refresh(undefined, true).finally(() => {
  document.querySelector("#state").textContent = told.authenticated ? "signed in" : "signed out";
});

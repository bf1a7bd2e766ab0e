import "./app/base.css";

import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { RouterProvider } from "react-router";

import { onSignedOut } from "./api/client";
import { keys } from "./api/keys";
import { ProblemError } from "./api/problem";
import { PreferencesProvider } from "./app/preferences";
import { router } from "./app/routes";

const client = new QueryClient({
  defaultOptions: {
    queries: {
      // Events say what changed while a page is open; what changed while it was not is read when it opens, behind what was known.
      staleTime: 0,
      refetchOnWindowFocus: false,
      retry: (failures, error) => failures < 2 && error instanceof ProblemError && error.isPassing,
    },
  },
});

onSignedOut(() => {
  if (client.getQueryData(keys.session)) client.setQueryData(keys.session, null);
});

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <PreferencesProvider>
        <RouterProvider router={router} />
      </PreferencesProvider>
    </QueryClientProvider>
  </StrictMode>,
);

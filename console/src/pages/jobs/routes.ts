import type { RouteObject } from "react-router";

import { lazyPage } from "../../app/lazyPage";

export const jobsRoutes: RouteObject[] = [
  { path: "jobs", lazy: lazyPage(() => import("./index")) },
  { path: "jobs/:jobId", lazy: lazyPage(() => import("./job")) },
];

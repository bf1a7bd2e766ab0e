import type { RouteObject } from "react-router";

import { lazyPage } from "../../app/lazyPage";

export const monitoringRoutes: RouteObject[] = [
  { path: "monitoring", lazy: lazyPage(() => import("./index")) },
  { path: "monitoring/:endpointId", lazy: lazyPage(() => import("./endpoint")) },
];

import { createBrowserRouter, type RouteObject } from "react-router";

import { costsRoutes } from "../pages/costs/routes";
import { dashboardRoutes } from "../pages/dashboard/routes";
import { dataRoutes } from "../pages/data/routes";
import { endpointsRoutes } from "../pages/endpoints/routes";
import { jobsRoutes } from "../pages/jobs/routes";
import { modelsRoutes } from "../pages/models/routes";
import { monitoringRoutes } from "../pages/monitoring/routes";
import { settingsRoutes } from "../pages/settings/routes";
import { trainRoutes } from "../pages/train/routes";
import { ErrorBoundary } from "./ErrorBoundary";
import { lazyPage } from "./lazyPage";
import { Root } from "./Root";
import { SignedIn } from "./SignedIn";

const pages: RouteObject[] = [
  ...dashboardRoutes,
  ...dataRoutes,
  ...modelsRoutes,
  ...trainRoutes,
  ...jobsRoutes,
  ...endpointsRoutes,
  ...monitoringRoutes,
  ...costsRoutes,
  ...settingsRoutes,
  { path: "*", lazy: lazyPage(() => import("../pages/notfound")) },
];

export const router = createBrowserRouter([
  {
    element: <Root />,
    // A page comes within a moment: nothing is shown meanwhile that would flash.
    HydrateFallback: () => null,
    errorElement: <ErrorBoundary />,
    children: [
      { path: "signin", lazy: lazyPage(() => import("../pages/signin")) },
      { element: <SignedIn />, children: [{ errorElement: <ErrorBoundary />, children: pages }] },
    ],
  },
]);

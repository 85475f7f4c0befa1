import { createApp } from '@backstage/frontend-defaults';
import { createFrontendModule } from '@backstage/frontend-plugin-api';
import { ProxiedSignInPage } from '@backstage/core-components';
import { SignInPageBlueprint } from '@backstage/plugin-app-react';
import catalogPlugin from '@backstage/plugin-catalog/alpha';
import searchPlugin from '@backstage/plugin-search/alpha';
import ReactDOM from 'react-dom/client';
import '@backstage/ui/css/styles.css';

// The ordinary page asks for a click on "Enter" before anything of the catalog is shown.
const signInAsGuest = createFrontendModule({
  pluginId: 'app',
  extensions: [
    SignInPageBlueprint.make({
      params: {
        loader: async () => props => <ProxiedSignInPage {...props} provider="guest" />,
      },
    }),
  ],
});

const app = createApp({ features: [catalogPlugin, searchPlugin, signInAsGuest] });
ReactDOM.createRoot(document.getElementById('root')).render(app.createRoot());
